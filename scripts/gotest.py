"""Runs `go test -json`, shows one line a package and the whole output of what failed, and judges skips.

usage: python3 scripts/gotest.py --skips FILE -- ARGUMENTS OF GO TEST
"""

import argparse
import collections
import json
import subprocess
import sys

import skips


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skips", required=True)
    parser.add_argument("go", nargs="*")
    args = parser.parse_args()

    go = subprocess.Popen(["go", "test", "-json", *args.go], stdout=subprocess.PIPE, text=True, errors="replace")
    output = collections.defaultdict(list)  # (package, test) -> lines
    failed, skipped, passed, slow = [], [], 0, []
    for line in go.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end="", flush=True)  # the go command itself, such as a build error
            continue
        package = event.get("Package", event.get("ImportPath", ""))
        test = event.get("Test", "")
        action = event["Action"]
        if action in ("output", "build-output"):
            text = event["Output"]
            if action == "output" and test:
                output[package, test].append(text)
            elif text.strip() not in ("PASS", ""):
                print(text, end="", flush=True)
            continue
        if not test:
            if action == "fail":  # a program that crashed has not said how its tests ended
                for lost in [key for key in output if key[0] == package]:
                    print(f"\n--- output of {package}.{lost[1]}, which did not end")
                    sys.stdout.write("".join(output.pop(lost)))
                sys.stdout.flush()
            continue
        if action == "pass":
            passed += 1
            if event.get("Elapsed", 0) >= 10 and "/" not in test:
                slow.append((event["Elapsed"], package, test))
        elif action == "skip":
            reason = " ".join("".join(output[package, test]).split())
            skipped.append((f"{package.split('/', 2)[-1]}.{test}", reason))
        elif action == "fail":
            failed.append(f"{package}.{test}")
            print(f"\n--- output of {package}.{test}")
            sys.stdout.write("".join(output[package, test]))
            sys.stdout.flush()
        if action in ("pass", "skip", "fail"):
            output.pop((package, test), None)
    status = go.wait()

    for seconds, package, test in sorted(slow, reverse=True)[:10]:
        print(f"slow: {seconds:6.1f} s  {package}.{test}")
    unexpected = skips.judge(skipped, skips.load(args.skips), "")
    for name in failed:
        print(f"failed: {name}")
    print(f"Go tests: {passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if status or failed or unexpected else 0)


if __name__ == "__main__":
    main()
