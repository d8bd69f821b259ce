"""Small studies by hand, with the learning rate tuned at each rank."""

from rankviz.core.studies.lines import Evidence, QualityPoint, StudiedModel, Study, Subject


def study(study_id="tuned", *, task_kind="instruction"):
    return Study(
        study_id=study_id,
        label=study_id.capitalize(),
        citation=f"{study_id} et al.",
        source=f"https://example.org/{study_id}",
        licence="paper",
        task_kind=task_kind,
        examples=1000,
        learning_rate_tuned_per_rank=True,
        learning_rate_tuned_per_method=True,
        learning_rate_and_alpha_policy="full grid",
        caveat=f"Caveat of {study_id}.",
        checked="2026-11-24",
    )


def base(name="toy/Small-1B", *, model_id="toy/Small-1B", family="Toy", parameters=10**9):
    return StudiedModel(
        base_model=name, model_id=model_id, family=family, parameters=parameters, source="by hand", checked="2026-11-24"
    )


def point(r, value, **more):
    return QualityPoint(
        **{
            "study_id": "tuned",
            "base_model": "toy/Small-1B",
            "task": "task",
            "metric": "test_nll",
            "higher_is_better": False,
            "role": "main",
            "method": "lora" if r else "full",
            "target_modules": "q,v",
            "facet": "attention",
            "rank": r,
            "lora_alpha": None,
            "learning_rate": 3e-4,
            "learning_rates_tried": 4,
            "value": value,
            "standard_error": None,
            "reference_learning_rate": None,
            "value_at_reference_rate": None,
            "trainable_parameters": None,
            "adapter_bytes": None,
            "peak_memory_bytes": None,
            "train_seconds": None,
            "duration": "",
            "table": "Table 1",
            "experiment": "",
            "run_date": "",
            **more,
        }
    )


def evidence(points, studies=(), models=()):
    return Evidence(studies or [study()], models or [base()], points)


def subject(*, model_id="toy/Small-1B", family="Toy", parameters=10**9, task_kinds=("instruction",)):
    return Subject(
        names=frozenset({model_id.lower()}),
        model_id=model_id,
        family=family,
        parameters=parameters,
        task_kinds=task_kinds,
    )
