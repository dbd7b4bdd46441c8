"""The table's cells, and their escaping."""

from isograd.compare.comparison import AuxiliaryParameters, Entry, Failure
from isograd.compare.tables import escape_latex, escape_markdown, latex, markdown, table
from tests.unit.studies.records import PSNR, comparison, config, entry, finished

BASELINE = entry(
    "e2e",
    finished(config("method=e2e", seed=0), (0.10,), 1000.0),
    finished(config("method=e2e", seed=1), (0.20,), 2000.0),
)


def test_a_row_has_means_spreads_and_pairs() -> None:
    other = entry("dgl", finished(config(seed=0), (0.08,), 1500.0), finished(config(seed=1), (0.14,), 1000.0))
    content = table(comparison(BASELINE, other))
    first, second = content.rows
    assert first == (
        *("e2e", "4", "1", "15.00 ± 7.07", "15.00 ± 7.07", "baseline"),
        *("1,500", "3", "2", "1,234", "10.0"),
    )
    assert second[3:7] == (
        "11.00 ± 4.24",
        "11.00 ± 4.24",
        "\N{MINUS SIGN}4.00 ± 2.83 (n = 2)",
        "1,250 (1.00\N{MULTIPLICATION SIGN})",
    )
    assert len(content.header) == len(second)


def test_the_header_says_split_unit_and_what_is_better() -> None:
    judged = {"score": PSNR, "split": "valid", "test": 31.5}
    made = comparison(entry("e2e", finished(config("method=e2e"), (30.0, 32.0), **judged)), score=PSNR)
    header = ("test PSNR, dB", "valid PSNR of the best epoch, dB", "difference, dB", "samples/s")
    assert table(made).header[3:7] == header and table(made).rows[0][3:5] == ("31.50", "32.00")


def test_one_seed_has_no_spread() -> None:
    alone = entry("e2e", finished(config("method=e2e"), (0.10,)))
    other = entry("dgl", finished(config(), (0.12,)))
    _, row = table(comparison(alone, other)).rows
    assert row[3:6] == ("12.00", "12.00", "+2.00 (n = 1)")


def test_failed_runs_are_seen() -> None:
    half = entry("half", finished(config(seed=0), (0.5,)), failures=(Failure(1, "it stopped"),))
    none = entry("none", failures=(Failure(0, "it stopped"), Failure(1, "it stopped")))
    _, first, second = table(comparison(BASELINE, half, none)).rows
    assert first[3] == "50.00 (1 of 2 seeds)" and first[5] == "+40.00 (n = 1)"
    assert second[3:] == ("failed", "-", "-", "-", "-", "2", "1,234", "-")


def test_frozen_parameters_are_counted_apart() -> None:
    averaging = Entry("man", config(), 4, AuxiliaryParameters(1000, 2345), 2048.0, (finished(config()),))
    assert table(comparison(averaging)).rows[0][9] == "1,000 + 2,345 frozen"


def test_escaping() -> None:
    assert escape_markdown("a|b_c*<d>") == r"a\|b\_c\*\<d\>"
    assert escape_latex(r"50% of a_b & {c} \d $e#~^") == (
        r"50\% of a\_b \& \{c\} \textbackslash{}d \$e\#\textasciitilde{}\textasciicircum{}"
    )
    assert escape_latex("[a]*") == "{}[a]*" and escape_latex("*") == "{}*"  # after \\, both would be read as its own
    assert escape_latex("\N{MINUS SIGN}1 ± 2\N{MULTIPLICATION SIGN}") == r"$-$1 $\pm$ 2$\times$"


def test_files_hold_table_notes_command_and_hardware() -> None:
    content = table(comparison(BASELINE, entry("a|b_c", finished(config(), (0.5,)))))
    said = markdown(content, ["a note"], "isograd compare x")
    assert "| --- | ---: |" in said and r"| a\|b\_c | 4 |" in said
    assert said.endswith("* a note\n\n```sh\nisograd compare x\n```\n")
    tex = latex(content, ["a note"], "isograd compare x", ["a machine"]).splitlines()
    assert tex[:4] == [
        r"% Needs \usepackage{booktabs}.",
        "% isograd compare x",
        "% hardware: a machine",
        "% a note",
    ]
    assert tex[4] == r"\begin{tabular}{lrrrrrrrrrr}" and tex[-1] == r"\end{tabular}"
    rows = [line for line in tex if line.endswith(r"\\")]
    assert len(rows) == 3 and all(row.count("&") == 10 for row in rows) and r"a|b\_c" not in rows[2]
    assert [line for line in tex if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
