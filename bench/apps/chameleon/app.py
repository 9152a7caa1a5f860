"""Renders an HTML table with the Chameleon template engine (the work of FunctionBench's `chameleon`)."""

import hashlib

from chameleon import PageTemplate

TABLE = PageTemplate("""\
<table>
  <tr tal:repeat="row rows">
    <td tal:repeat="cell row" tal:content="cell" tal:attributes="class 'even' if repeat.cell.even else 'odd'" />
  </tr>
</table>
""")


def handler(event, context):
    """Renders `rows` x `columns` cells. Answers with the page's size and digest, and with the page where `page` is set."""
    rows, columns = event["rows"], event["columns"]
    cells = [[f"{row} < {row + column} & {row * column}" for column in range(columns)] for row in range(rows)]
    page = TABLE.render(rows=cells)
    answer = {"bytes": len(page), "sha256": hashlib.sha256(page.encode()).hexdigest()}
    return answer | {"page": page} if event.get("page") else answer
