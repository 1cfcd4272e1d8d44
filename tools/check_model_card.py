"""Reads the model card of a job as huggingface_hub does, and compares it with the job's report.

What ModelCard and ModelCardData make of README.md must be what they make of the figures in
narrow-report.json, and writing it again must not change it.

Usage: check_model_card.py OUTPUT_DIR     (a Python that has huggingface_hub)
"""
import json
import pathlib
import sys

from huggingface_hub import EvalResult, ModelCard, ModelCardData

DATASETS = {
    'wikitext2': ('WikiText-2 (raw)', 'Salesforce/wikitext', 'wikitext-2-raw-v1', 'test'),
    'builtin': ('built-in corpus of narrow', 'text', None, None),
}


def expected_results(evaluation):
    """EvalResults of a report's evaluation."""
    name, kind, config, split = DATASETS.get(evaluation['dataset'], (evaluation['dataset'], 'json', None, None))
    metrics = {
        'perplexity': evaluation['perplexity']['deployed'],
        'kl_divergence': evaluation['kl']['deployed'],
        'top1_agreement': evaluation['divergence']['deployed']['top1_agreement']['mean'],
    }
    return [EvalResult(task_type='text-generation', dataset_type=kind, dataset_name=name, dataset_config=config,
                       dataset_split=split, metric_type=metric, metric_value=round(value, 6))
            for metric, value in metrics.items()]


def without_names(results):
    """What counts of each result: the name of a metric is for people."""
    return [(r.task_type, r.dataset_type, r.dataset_name, r.dataset_config, r.dataset_split, r.metric_type,
             round(r.metric_value, 6)) for r in results]


def main(directory):
    report = json.loads((directory / 'narrow-report.json').read_text(encoding='utf8'))
    card = ModelCard((directory / 'README.md').read_text(encoding='utf8'))
    data = card.data
    assert data.library_name == 'vllm' and data.pipeline_tag == 'text-generation', data
    assert data.tags == ['fp8', 'vllm'], data.tags
    if report['evaluation'] is None:
        assert data.eval_results is None, data.eval_results
    else:
        assert data.model_name == directory.name, data.model_name
        found = without_names(data.eval_results)
        expected = without_names(expected_results(report['evaluation']))
        assert found == expected, f'found {found}, expected {expected}'
    # What the classes write is read as the same again: nothing was lost on the way.
    assert ModelCardData(**vars(data)).to_dict() == data.to_dict()
    assert ModelCard(f'---\n{data.to_yaml()}\n---\n').data.to_dict() == data.to_dict()
    for key in ('base_model', 'base_model_relation', 'license', 'license_name', 'license_link'):
        print(f'{key}: {json.dumps(data.get(key))}')
    print(f'results: {len(data.eval_results or [])}')


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]).resolve())
