#!/usr/bin/env python3
"""A table of what `narrow evaluate --reference` wrote of several checkpoints of one model, paired window by window.

Usage: tabulate_comparisons.py NAME=FILE.json...
The files are of the same windows. For each arithmetic of attention: perplexity, loss increase, KL and share of the same
most probable tokens, with a standard error over windows; ratios are against the first, with an error by the delta method.
"""
import json
import math
import sys

ARITHMETICS = (('deployed', 'attention in FP8'), ('deployed_bf16_attention', 'cache dequantized'))


def mean(values):
    return sum(values) / len(values)


def ratio(numerator, denominator):
    """Of two means over the same windows, and its standard error."""
    quotient = mean(numerator) / mean(denominator)
    residuals = [a - quotient * b for a, b in zip(numerator, denominator)]
    count = len(residuals)
    variance = sum(residual ** 2 for residual in residuals) / (count * (count - 1))
    return quotient, math.sqrt(variance) / abs(mean(denominator))


def read(argument):
    name, _, path = argument.partition('=')
    with open(path, encoding='utf-8') as file:
        return name, json.load(file)['evaluation']


def percent(value_and_error):
    return '{:.1f} ± {:.1f} %'.format(*(100 * number for number in value_and_error))


def estimate(figures, digits, factor=1.0):
    return '{:.{}f} ± {:.{}f}'.format(factor * figures['mean'], digits, factor * figures['standard_error'], digits)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    judged = [read(argument) for argument in sys.argv[1:]]
    original = judged[0][1]['window_nll']['original']
    if any(evaluation['window_nll']['original'] != original for _, evaluation in judged):
        sys.exit('tabulate_comparisons.py: the files are not of the same windows of the same original')
    print('| attention | | perplexity | loss increase | KL | same most probable token |\n|---|---|---|---|---|---|')
    print(f'| | original | {judged[0][1]["perplexity"]["original"]:.3f} | | | |')
    for key, what in ARITHMETICS:
        first = None
        for name, evaluation in judged:
            figures = evaluation['divergence'].get(key)
            if figures is None:
                continue
            print(f'| {what} | {name} | {evaluation["perplexity"][key]:.3f} | {estimate(figures["nll_increase"], 4)} | '
                  f'{estimate(figures["kl"], 4)} | {estimate(figures["top1_agreement"], 1, 100)} % |')
            losses = [after - before for after, before in zip(figures['window_nll'], original)]
            if first is None:
                first = name, losses, figures['window_kl']
                continue
            print(f'| {what} | {name} against {first[0]} | | {percent(ratio(losses, first[1]))} | '
                  f'{percent(ratio(figures["window_kl"], first[2]))} | |')


if __name__ == '__main__':
    main()
