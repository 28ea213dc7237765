"""Small wrong changes of the sources ("mutants"), many at once: python3 tests/mutants.py DIR [--count N] [--seed S] [--minutes M]

`cargo mutants` compiles the workspace for each change, which takes days for all of them. This script puts a random sample into a copy
of the sources at DIR, each behind a switch that an environment variable sets, and compiles once. It records which tests reach
which change, and then runs, for each change, the tests that reach it, the quickest first, until one fails. A change that
none notices is printed as missed. Files and functions are those of .cargo/mutants.toml. The same command goes on where it stopped.

Needs the packages tree-sitter and tree-sitter-rust. Run it alone: a test that is too slow counts as failed.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import tomllib

import tree_sitter_rust
from tree_sitter import Language, Parser

OPERATORS = {
    "+": "- *", "-": "+ /", "*": "+ /", "/": "* %", "%": "/ +", "==": "!=", "!=": "==", "<": "<= >", ">": ">= <", "<=": "< >",
    ">=": "> <", "&&": "||", "||": "&&", "<<": ">>", ">>": "<<", "&": "| ^", "|": "&", "^": "|", "+=": "-= *=", "-=": "+=",
    "*=": "/= +=", "/=": "*=", "|=": "&=", "&=": "|=", "^=": "|=", "<<=": ">>=", ">>=": "<<=",
}
# Contexts without a value at run time, or whose tokens are not parsed.
SKIPPED = {
    "const_item", "static_item", "attribute_item", "inner_attribute_item", "macro_invocation", "macro_definition", "array_type",
    "type_arguments", "const_block", "enum_variant", "parameters", "const_parameter",
}
OFF, COVER, UNREAD = 3_999_999_999, 4_000_000_000, 4_294_967_295
SWITCH = """
#[doc(hidden)]
pub mod mutant_switch {
    use std::sync::atomic::{AtomicU32, AtomicU8, Ordering::Relaxed};
    static ACTIVE: AtomicU32 = AtomicU32::new(UNREAD);
    static HIT: [AtomicU8; COUNT] = [const { AtomicU8::new(0) }; COUNT];
    #[inline(always)]
    pub fn on(id: u32) -> bool {
        let active = ACTIVE.load(Relaxed);
        if active >= COVER { slow(id) } else { active == id }
    }
    #[cold]
    #[inline(never)]
    fn slow(id: u32) -> bool {
        if ACTIVE.load(Relaxed) == UNREAD {
            let text = std::env::var("MUTANT").unwrap_or_default();
            ACTIVE.store(if text == "cover" { COVER } else { text.parse().unwrap_or(OFF) }, Relaxed);
            return on(id);
        }
        if HIT[id as usize].swap(1, Relaxed) == 0 {
            use std::io::Write as _;
            let path = std::env::var("MUTANT_COVER").unwrap();
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            let _ = file.and_then(|mut file| file.write_all(format!("{id}\\n").as_bytes()));
        }
        false
    }
}
"""
for name, value in [("UNREAD", UNREAD), ("COVER", COVER), ("OFF", OFF)]:
    SWITCH = re.sub(rf"\b{name}\b", str(value), SWITCH)
# Tests of the sources themselves, of peers, and of what takes minutes.
LEFT_OUT = re.compile(r"^(words|architecture|fuzz|ranks|torchvision|lessons|notes)$")


def candidates(root):
    """Yields file, source, place, operator and replacement of all changes."""
    parser = Parser(Language(tree_sitter_rust.language()))
    config = tomllib.load(open(f"{root}/.cargo/mutants.toml", "rb"))
    excluded = re.compile("|".join(config["exclude_re"]))
    cases = {f for pattern in config["exclude_globs"] for f in glob.glob(f"{root}/{pattern}", recursive=True)}
    files = {f for pattern in config["examine_globs"] for f in glob.glob(f"{root}/{pattern}", recursive=True)}
    for file in sorted(f for f in files - cases if not re.search(r"/tests?\.rs$", f)):
        source = open(file, "rb").read()
        stack = [parser.parse(source).root_node]
        while stack:
            node = stack.pop()
            if node.type in SKIPPED or is_test(node):
                continue
            if node.type == "function_item":
                body = node.child_by_field_name("body")
                head = source[node.start_byte : body.start_byte if body else node.end_byte].decode().split("fn ")[0]
                if re.search(r"\bconst\b", head):
                    continue
            for operator, replacement in changes(node):
                if not excluded.search(f"replace {operator} with {replacement} in {function(node)}"):
                    yield file, node.start_byte, node.end_byte, operator, replacement
            length = node.type == "array_expression"
            stack += [c for i, c in enumerate(node.children) if not (length and node.field_name_for_child(i) == "length")]


def function(node):
    """The name of the function around a node, as cargo-mutants writes it: Type::name, or <impl Trait for Type>::name."""
    name = ""
    while node is not None:
        if node.type == "function_item" and not name:
            name = node.child_by_field_name("name").text.decode()
        elif node.type == "impl_item":
            of, trait = node.child_by_field_name("type").text.decode(), node.child_by_field_name("trait")
            return f"<impl {trait.text.decode()} for {of}>::{name}" if trait else f"{of}::{name}"
        node = node.parent
    return name


def is_test(node):
    before = node.prev_sibling
    while node.type in ("mod_item", "function_item") and before is not None and before.type in ("attribute_item", "line_comment"):
        if before.type == "attribute_item" and b"test" in before.text:
            return True
        before = before.prev_sibling
    return False


def changes(node):
    if node.type in ("binary_expression", "compound_assignment_expr"):
        operator = node.child_by_field_name("operator").text.decode()
        # A `let` in a condition must stay where it is.
        if not re.search(r"\blet\b", node.text.decode().split("{")[0]):
            yield from ((operator, replacement) for replacement in OPERATORS.get(operator, "").split())
    elif node.type == "unary_expression" and node.children[0].type in "!-" and "literal" not in node.children[1].type:
        yield node.children[0].type, ""


def instrument(root, chosen, count):
    """Puts the chosen changes into the files, without changing the numbers of lines."""
    parser = Parser(Language(tree_sitter_rust.language()))
    by_file = {}
    for number, (file, start, end, _, replacement) in chosen.items():
        by_file.setdefault(file, {}).setdefault((start, end), []).append((number, replacement))
    for file, sites in by_file.items():
        source = open(file, "rb").read()

        def text(node):
            parts, at = [], node.start_byte
            for child in node.children:
                parts += [source[at : child.start_byte].decode(), text(child)]
                at = child.end_byte
            inner = "".join(parts) + source[at : node.end_byte].decode()
            found = sites.get((node.start_byte, node.end_byte))
            if not found or not node.type.endswith(("_expression", "_expr")) or node.type == "parenthesized_expression":
                return inner
            branches = "".join(f"if crate::mutant_switch::on({number}) {{ {changed(node, to)} }} else " for number, to in found)
            whole = f"{branches}{{ {inner} }}"
            is_statement = node.type == "compound_assignment_expr" and node.parent.type == "expression_statement"
            return whole if is_statement else f"({whole})"

        def changed(node, to):
            plain = lambda n: source[n.start_byte : n.end_byte].decode()
            if node.type == "unary_expression":
                return plain(node.children[1])
            left, right = plain(node.child_by_field_name("left")), plain(node.child_by_field_name("right"))
            return f"({left}) {to} ({right})" if node.type == "binary_expression" else f"{left} {to} {right}"

        result = text(parser.parse(source).root_node)
        open(file, "w").write(result)
    for crate in {re.match(re.escape(root) + r"/crates/[^/]+", file)[0] for file in by_file}:
        with open(f"{crate}/src/lib.rs", "a") as lib:
            lib.write(SWITCH.replace("COUNT", str(count)))


def cargo(root, command):
    process = subprocess.Popen(
        ["cargo", *command.split(), "--message-format", "json"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    messages = [json.loads(line) for line in process.stdout if line.startswith("{")]
    return process.wait(), messages


def build(root, data, args):
    """Makes the copy, drops the changes that do not compile, and returns those that are left and the test programs."""
    everything = list(candidates(root))
    print(f"{len(everything)} changes are possible, {min(args.count, len(everything))} are tried", flush=True)
    random.Random(args.seed).shuffle(everything)
    dropped = set()
    while True:
        subprocess.run(["git", "checkout", "-q", "."], cwd=root, check=True)
        chosen = {i: c for i, c in enumerate(everything[: args.count]) if i not in dropped}
        lines = {i: open(c[0], "rb").read()[: c[1]].count(b"\n") + 1 for i, c in chosen.items()}
        texts = {i: open(c[0], "rb").read()[c[1] : c[2]].decode() for i, c in chosen.items()}
        instrument(root, chosen, args.count)
        code, messages = cargo(root, "check --workspace --keep-going")
        if code == 0:
            break
        wrong = set()
        for message in messages:
            if message.get("reason") == "compiler-message" and message["message"]["level"] == "error":
                for span in message["message"]["spans"]:
                    part = open(f"{root}/{span['file_name']}").read().split("\n")[span["line_start"] - 1 : span["line_end"]]
                    wrong |= {int(i) for i in re.findall(r"mutant_switch::on\((\d+)\)", "\n".join(part))}
        if not wrong:
            sys.exit("the copy does not compile, and no change is the reason")
        dropped |= wrong
    code, messages = cargo(root, "test --workspace --no-run")
    if code != 0:
        sys.exit("the tests of the copy do not compile")
    programs = [
        {"path": m["executable"], "folder": os.path.dirname(m["manifest_path"]), "name": m["target"]["name"]}
        for m in messages
        if m.get("reason") == "compiler-artifact" and m.get("executable") and m["profile"]["test"]
    ]
    info = {
        i: {"file": os.path.relpath(c[0], root), "line": lines[i], "from": c[3], "to": c[4], "text": texts[i]} for i, c in chosen.items()
    }
    state = {"changes": info, "programs": [p for p in programs if not LEFT_OUT.match(p["name"])]}
    json.dump(state, open(f"{data}/build.json", "w"))
    return json.loads(json.dumps(state))


def run_test(test, seconds, **environment):
    """Returns the exit code of a test, `None` if it took longer."""
    variables = dict(os.environ, CARGO_MANIFEST_DIR=test["folder"], **environment)
    command = [test["path"], "--exact", test["test"], "--test-threads", "1"]
    try:
        return subprocess.run(
            command, cwd=test["folder"], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def cover(data, programs, threads):
    """Returns the tests that pass, with their seconds and the changes that each reaches."""
    tests = []
    for program in programs:
        found = subprocess.run([program["path"], "--list"], cwd=program["folder"], capture_output=True, text=True).stdout
        tests += [{**program, "test": name} for name in re.findall(r"^(.*): test$", found, re.M)]

    def one(number):
        file, start = f"{data}/cover-{number}", time.time()
        if os.path.exists(file):
            os.remove(file)
        code = run_test(tests[number], 150, MUTANT="cover", MUTANT_COVER=file)
        reached = sorted({int(i) for i in open(file).read().split()}) if os.path.exists(file) else []
        return {**tests[number], "code": code, "seconds": time.time() - start, "reached": reached}

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        all_tests = list(pool.map(one, range(len(tests))))
    passed = [test for test in all_tests if test["code"] == 0]
    print(f"{len(passed)} of {len(tests)} tests pass in the copy", flush=True)
    json.dump(passed, open(f"{data}/cover.json", "w"))
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the copy: a new folder, or that of an earlier call")
    parser.add_argument("--count", type=int, default=400, help="number of changes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="stop trying changes after this time")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    root, data = os.path.abspath(args.folder), os.path.abspath(args.folder) + "/target/mutants"
    if not os.path.exists(root):
        subprocess.run(["git", "worktree", "add", "--detach", root], check=True)
    os.makedirs(data, exist_ok=True)
    load = lambda name: json.load(open(f"{data}/{name}")) if os.path.exists(f"{data}/{name}") else None
    state = load("build.json") or build(root, data, args)
    tests = load("cover.json") or cover(data, state["programs"], args.threads)
    reaching = {}
    for test in sorted(tests, key=lambda test: test["seconds"]):
        for number in test["reached"]:
            reaching.setdefault(number, []).append(test)
    results = load("results.json") or {}
    end, lock = time.time() + 60 * args.minutes, threading.Lock()

    def one(number):
        if number in results or time.time() > end:
            return
        result = "missed" if reaching.get(int(number)) else "not reached"
        for test in reaching.get(int(number), []):
            code = run_test(test, 30 + 6 * test["seconds"], MUTANT=number)
            if code != 0:
                result = f"killed by {test['name']}: {test['test']}"
                break
        with lock:
            results[number] = result
            json.dump(results, open(f"{data}/results.json", "w"))

    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
        list(pool.map(one, state["changes"]))
    for number, result in results.items():
        if not result.startswith("killed"):
            change = state["changes"][number]
            text = re.sub(r"\s+", " ", change["text"])[:100]
            print(f"{result}: {change['file']}:{change['line']}: {change['from']} -> {change['to'] or 'nothing'} in: {text}")
    killed = sum(result.startswith("killed") for result in results.values())
    print(f"{len(results)} of {len(state['changes'])} changes tried, {killed} killed")


if __name__ == "__main__":
    main()
