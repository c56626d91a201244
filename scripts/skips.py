"""Judges skipped tests: one that is not on the list of expected skips is an error.

usage: python3 scripts/skips.py --skips FILE --prefix PREFIX JUNIT.XML…
"""

import argparse
import fnmatch
import sys
import xml.etree.ElementTree


def load(path):
    """The patterns of the list: each line is a pattern for a test's name, then # and the reason."""
    patterns = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            pattern, _, reason = line.partition("#")
            pattern = pattern.strip()
            if pattern and not reason.strip():
                sys.exit(f"{path}:{number}: {pattern} has no reason")
            if pattern:
                patterns.append(pattern)
    return patterns


def judge(skipped, patterns, prefix):
    """Prints each skip and returns those that nobody expected."""
    unexpected = []
    for name, reason in skipped:
        expected = any(fnmatch.fnmatchcase(prefix + name, pattern) for pattern in patterns)
        print(f"{'skipped' if expected else 'SKIPPED WITHOUT BEING EXPECTED'}: {prefix}{name}: {reason}")
        if not expected:
            unexpected.append(name)
    return unexpected


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skips", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("reports", nargs="+")
    args = parser.parse_args()
    skipped = []
    for report in args.reports:
        try:
            cases = xml.etree.ElementTree.parse(report).iter("testcase")
        except OSError as error:
            sys.exit(f"there is no report of the tests: {error}")
        for case in cases:
            for skip in case.iter("skipped"):
                skipped.append((f"{case.get('classname')}.{case.get('name')}", skip.get("message", "")))
    sys.exit(1 if judge(skipped, load(args.skips), args.prefix) else 0)


if __name__ == "__main__":
    main()
