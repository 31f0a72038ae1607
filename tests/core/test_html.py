"""HTML of notebooks: what its tables keep of long texts."""

from processing.core.html import facts_table, table


def test_each_line_of_a_cell_is_shortened_by_itself():
    lines = ["a" * 200, "b" * 200, "c" * 400]
    html = table(["details"], [["\n".join(lines)]])
    assert f"{lines[0]}<br>{lines[1]}<br>{'c' * 150} … {'c' * 150}<" in html


def test_the_name_of_a_fact_stays_on_one_line():
    assert 'white-space:nowrap">first, last path</th>' in facts_table([("first, last path", "a")])
