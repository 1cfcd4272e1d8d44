"""Summary of a ctest JUnit report: failed tests, skipped tests with reasons, and the closing line.

Usage: test_summary.py REPORT.xml CTEST_EXIT_STATUS
Exits with 0 only when ctest did, at least one test passed and none failed.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

# How a test says that it skipped; anything else that did not run (a program that is not there) failed.
SKIPPED = ('SKIP_REGULAR_EXPRESSION_MATCHED', 'SKIP_RETURN_CODE')


def skip_reason(case):
    """The text a test gave to GTEST_SKIP(), on one line."""
    output = case.findtext('system-out') or ''
    found = re.search(r': Skipped\n(.*?)\n?(?=\n|\[  SKIPPED)', output, re.DOTALL)
    text = found.group(1) if found else output
    return ' '.join(text.split())[:200] or 'no reason given'


def main():
    report, ctest_status = sys.argv[1], int(sys.argv[2])
    try:
        cases = ElementTree.parse(report).getroot().findall('testcase')
    except (OSError, ElementTree.ParseError) as error:
        sys.exit(f'test_summary.py: no readable test report: {error}')
    passed, failed, skipped = [], [], []
    for case in cases:
        mark = case.find('skipped')
        message = '' if mark is None else mark.get('message', '')
        if case.get('status') == 'run':
            passed.append(case)
        elif message.startswith(SKIPPED):
            skipped.append(case)
        else:
            failed.append(case)
    for case in failed:
        print(f"failed: {case.get('name')}")
    for case in skipped:
        print(f"skipped: {case.get('name')}: {skip_reason(case)}")
    print(f'{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped')
    return 0 if passed and not failed and ctest_status == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
