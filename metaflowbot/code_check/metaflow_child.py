"""Run as a script, in a process of its own: Metaflow's command lines, and its rules for graphs.

The first line of output is the tree of commands. Then each line of input is a flow's steps as
JSON, and each line of output is the first rule that they break, or null. Of the flow only the
syntax tree of each step's last statement is read; nothing of it is run. No file is written and no
connection made once Metaflow is loaded.
"""

from __future__ import annotations

import ast
import json
import resource
import signal
import sys
from importlib import import_module
from typing import Any

# Seconds for one flow: some graphs take the rules exponential time.
_TIME_LIMIT = 2
_MEMORY_LIMIT = 2 * 2**30
_REFUSED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(args[1], str) and args[1].strip("rbtU") != ""
    if writes or event.startswith(_REFUSED):
        raise PermissionError(f"{event} is not allowed here")


def _command(command: Any, context: Any) -> dict[str, Any]:
    """A command as the checker reads it; commands that can't be loaded are left out."""
    options = [
        {
            "names": [*item.opts, *item.secondary_opts],
            "parameter": item.name,
            "values": 0 if item.is_flag else item.nargs,
            "choices": list(getattr(item.type, "choices", ())),
        }
        for item in command.params
        if item.param_type_name == "option"
    ]
    inside = getattr(command, "list_commands", lambda _: ())(context)
    found = {name: command.get_command(context, name) for name in inside}
    return {
        "options": options,
        "takes_parameters": bool(getattr(command, "has_flow_params", False)),
        "commands": {name: _command(item, context) for name, item in found.items() if item},
    }


def _option(name: str, values: int) -> dict[str, Any]:
    parameter = name.replace("-", "_")
    return {"names": [f"--{name}"], "parameter": parameter, "values": values, "choices": []}


def _commands() -> dict[str, Any]:
    click: Any = import_module("metaflow._vendor.click")
    start: Any = import_module("metaflow.cli").start
    program: Any = import_module("metaflow.cmd.main_cli").start
    decorators: Any = import_module("metaflow.plugins").FLOW_DECORATORS
    flow = _command(start, click.Context(start))
    # Those of decorators and of configurations are added once there is a flow.
    for decorator in decorators:
        flow["options"] += [
            _option(name, 0 if given.get("is_flag") else 1)
            for name, given in decorator.options.items()
        ]
    flow["options"] += [_option("config", 2), _option("config-value", 2)]
    return {"flow": flow, "metaflow": _command(program, click.Context(program))}


class _Mark:
    """Stands for a step's decorator."""

    IS_PARALLEL = True


def _broken_rule(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    graph: Any = import_module("metaflow.graph")
    lint: Any = import_module("metaflow.lint")
    nodes = {step["name"]: _node(graph.DAGNode, step) for step in steps}
    # Metaflow's graph, its nodes made of syntax trees instead of a class that has to be run.
    made = type("Graph", (graph.FlowGraph,), {"_create_nodes": lambda *_: nodes})
    try:
        lint.linter.run_checks(made(type("Flow", (), {})))
    except lint.LintWarn as found:
        return {"message": str(found.message), "line": found.line_no or 0}
    return None


def _node(node: Any, step: dict[str, Any]) -> Any:
    function = ast.parse(step["source"]).body[0]
    marks = [_Mark()] if step["is_parallel"] else []
    return node(
        function,
        marks,
        [],
        [],
        "",
        "",
        step["line"],
        is_start_step=step["is_start"],
        is_end_step=step["is_end"],
        name=step["name"],
    )


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    written = sys.stdout
    sys.stdout = sys.stderr
    print(json.dumps(_commands()), file=written, flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    sys.addaudithook(_refuse)
    for line in sys.stdin:
        signal.alarm(_TIME_LIMIT)
        broken = _broken_rule(json.loads(line))
        signal.alarm(0)
        print(json.dumps(broken), file=written, flush=True)


if __name__ == "__main__":
    main()
