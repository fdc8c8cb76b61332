"""What a process exposes, read back as entries of the catalogue."""

from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import Metric


def exposed(text: str) -> dict[str, tuple[str, str]]:
    """Kind and description of each metric, by the name that the catalogue gives it."""
    families = {each.name: each for each in text_string_to_metric_families(text)}
    return {
        name: (family.type, family.documentation)
        for name, family in families.items()
        if name.removesuffix("_created") not in families or not name.endswith("_created")
    }


def declared(metrics: tuple[Metric, ...]) -> dict[str, tuple[str, str]]:
    """The same of entries of the catalogue."""
    return {metric.name: (metric.kind, metric.about) for metric in metrics}


def labels(text: str) -> dict[str, set[frozenset[str]]]:
    """Under which sets of labels each metric has samples; without the bounds of a histogram's buckets."""
    return {
        family.name: {frozenset(sample.labels) - {"le"} for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def buckets(text: str) -> dict[str, set[float]]:
    """The upper bounds of each histogram's buckets, but the infinite one."""
    return {
        family.name: {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels} - {float("inf")}
        for family in text_string_to_metric_families(text)
        if family.type == "histogram"
    }
