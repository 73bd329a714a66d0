"""What the numbers say, in plain words that follow from the intervals and from nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sartor.report.arms import is_joint
from sartor.report.budgets import ASKING, claims_of
from sartor.report.finding import Finding
from sartor.report.kinds import KINDS, Kind
from sartor.report.statistics import Interval, Outcome, paired_difference
from sartor.report.table import Block, Row
from sartor.report.verdict_asking import asking_findings
from sartor.report.wording import brief_percent, counted, flops, listed, percent, seconds, signed, span

CONTROLS = ("coreset-only", "redrawn", "random", "dense-steps", "dense", "prune-only")
"""What joint training is held against in words, besides the comparison's own baseline and random arm."""


_SHOWN: tuple[Outcome, ...] = ("better", "worse")


@dataclass(frozen=True)
class Verdict:
    """A headline, findings by setting (its title, then its findings), and how to read them; `str` gives plain text."""

    headline: str
    sections: tuple[tuple[str, tuple[Finding, ...]], ...]
    reading: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.headline]
        for title, findings in self.sections:
            lines += ["", f"{title}:", *(f"- {finding.text}" for finding in findings)]
        return "\n".join([*lines, "", *self.reading])


def judge(blocks: Sequence[Block]) -> Verdict:
    """Say whether joint training beats its controls, how clean its coresets are, and what everything cost."""
    sections = []
    for setting in dict.fromkeys(block.setting for block in blocks):
        own = [block for block in blocks if block.setting == setting]
        plain = next((block for block in own if block.match == "epochs"), None)
        findings = findings_of(plain) if plain is not None else []
        findings += _at_equal_cost([block for block in own if block.match == "cost"])
        sections.append((f"{setting.title} ({seed_range(own)})", tuple(findings)))
    return Verdict(_headline(blocks), tuple(sections), _reading(blocks))


def claims(blocks: Sequence[Block], match: str = "epochs") -> list[Interval]:
    """Return what the joint arms are claimed to add to the baseline, in blocks of that kind ("epochs" or "cost")."""
    return [interval for block in blocks if block.match == match for interval in claims_of(block)]


def _headline(blocks: Sequence[Block]) -> str:
    """State the claim's outcome, one sentence for each kind of comparison."""
    kinds = dict.fromkeys(block.setting.kind for block in blocks)
    return " ".join(_headline_of(kind, [block for block in blocks if block.setting.kind == kind]) for kind in kinds)


def _headline_of(kind: str, blocks: Sequence[Block]) -> str:
    """State the claim's outcome at equal epochs, then at equal cost where that was run."""
    baseline = listed(sorted({block.baseline for block in blocks}), "or")
    found, at_cost = claims(blocks), claims(blocks, "cost")
    headline = _claim(found, baseline, KINDS[kind])
    if not at_cost or any(claim.outcome == "unknown" for claim in [*found, *at_cost]):
        return headline
    counts = Counter(claim.outcome for claim in at_cost)
    parts = [f"it is {outcome} in {counts[outcome]}" for outcome in _SHOWN if counts[outcome]]
    parts += [f"no difference could be shown in {counts['unclear']}"] if counts["unclear"] else []
    return f"{headline} At equal cost, {listed(parts)} of {len(at_cost)}."


def _claim(found: Sequence[Interval], baseline: str, kind: Kind) -> str:
    subject, counts = kind.subject[0].upper() + kind.subject[1:], Counter(claim.outcome for claim in found)
    if not found:
        return f"Nothing can be said about {kind.subject}: no such arm stands beside {baseline}."
    if counts["unknown"]:
        return f"Nothing is shown about {kind.subject} against {baseline}: a single seed gives no interval."
    total = counted(len(found), kind.counted)
    rest = [f"it is worse in {counts['worse']}"] if counts["worse"] else []
    rest += [f"no difference could be shown in {counts['unclear']}"] if counts["unclear"] else []
    if counts["better"] and rest:
        return f"{subject} beats {baseline} in {counts['better']} of {total}; {listed(rest)}."
    if counts["better"]:
        return f"{subject} beats {baseline}{f' in all of {total}' if len(found) > 1 else ''}."
    if len(rest) == 1:
        how, where = ("it is worse", "all") if counts["worse"] else ("no difference could be shown", "any")
        return f"{subject} does not beat {baseline}: {how}{f' in {where} of {total}' if len(found) > 1 else ''}."
    return f"{subject} does not beat {baseline}: of {total}, {listed(rest)}."


def findings_of(block: Block) -> list[Finding]:
    """Collect what one block at equal epochs says, by topic, as its kind asks."""
    return asking_findings(block) if block.setting.kind == ASKING else _findings(block)


def _findings(block: Block) -> list[Finding]:
    """Collect what a block of arms that end with one network each says."""
    baseline, who = block.row(block.baseline), KINDS[block.setting.kind].who
    joint = [row for row in block.joint_rows if row.minus_baseline is not None]
    controls = CONTROLS if block.setting.kind == "joint" else [row.arm for row in block.rows if not is_joint(row.arm)]
    others = [arm for arm in dict.fromkeys((block.random, *controls)) if arm != block.baseline]
    alone = _against(baseline, block, [block.random, "dense-steps", "dense"]) if baseline is not None else []
    by_topic = {
        f"{who} against {block.baseline}": [_against_baseline(row, block) for row in joint],
        f"{who} against the others": [text for row in block.joint_rows for text in _against(row, block, others)],
        f"{block.baseline} by itself": alone,
        "Where the gain comes from": _where_it_comes_from(block),
        "Wrong labels": _wrong_labels(block),
        "Cost": _costs(block),
    }
    tabled = (f"{who} against the others", f"{block.baseline} by itself")
    return [Finding(topic, text, topic in tabled) for topic, texts in by_topic.items() for text in texts]


def _against_baseline(row: Row, block: Block) -> str:
    """Say first and plainly whether a joint arm beats the baseline."""
    difference, name = row.minus_baseline, block.baseline
    assert difference is not None
    weights = f" with {brief_percent(row.kept_weights)} of the weights" if row.kept_weights is not None else ""
    reached = f"it reaches {row.accuracy.mean:.1f} %{weights}"
    amount = f"{signed(difference.mean)} pp, interval {span(difference)}"
    if difference.outcome == "better":
        return f"{row.arm} beats {name} ({amount}); {reached}."
    if difference.outcome == "worse":
        return f"{row.arm} does not beat {name}, it is worse ({amount}); {reached}."
    if difference.outcome == "unclear":
        return f"{row.arm} does not beat {name}: no difference could be shown ({amount}); {reached}."
    return f"{row.arm} against {name}: {signed(difference.mean)} pp with one seed, which shows nothing; {reached}."


def _against(row: Row, block: Block, others: Sequence[str]) -> list[str]:
    """Say in one sentence to which of the other arms this one is better, not different, or worse."""
    groups: dict[Outcome, list[str]] = {}
    for name in others:
        other = block.row(name)
        difference = paired_difference(row.by_seed, other.by_seed) if other is not None and name != row.arm else None
        if difference is not None:
            groups.setdefault(difference.outcome, []).append(f"{name} ({_amount(difference, row)})")
    parts = [f"better than {listed(groups['better'])}"] if "better" in groups else []
    parts += [f"worse than {listed(groups['worse'])}"] if "worse" in groups else []
    text = f"{row.arm} is {listed(parts)}" if parts else ""
    if "unclear" in groups:
        unclear = f"no difference to {listed(groups['unclear'], 'or')} could be shown"
        text = f"{text}; {unclear}" if text else f"For {row.arm}, {unclear}"
    if "unknown" in groups:
        text = f"{row.arm} differs, with one seed, from {listed(groups['unknown'])}; that shows nothing"
    return [f"{text}."] if text else []


def _amount(difference: Interval, row: Row) -> str:
    if math.isnan(difference.low):
        return f"{signed(difference.mean)} pp"
    pairs = f", n = {difference.n}" if difference.n != row.n else ""
    return f"{signed(difference.mean)} pp, {span(difference)}{pairs}"


def _where_it_comes_from(block: Block) -> list[str]:
    """Say which part of a gain over dense is there without pruning, and which without choosing samples."""
    dense, steps, baseline = block.row("dense"), block.row("dense-steps"), block.row(block.baseline)
    sentences = []
    gain = paired_difference(baseline.by_seed, dense.by_seed) if baseline is not None and dense is not None else None
    joint = [row for row in block.joint_rows if row.minus_baseline is not None]
    shown = any(row.minus_baseline.outcome == "better" for row in joint if row.minus_baseline is not None)
    if gain is not None and gain.outcome == "better" and joint and not shown:
        sentences.append(
            f"The gain over dense is there without pruning: {block.baseline} has {signed(gain.mean)} pp over dense."
        )
    sentences += _preservation_alone(block)
    shorter = paired_difference(steps.by_seed, dense.by_seed) if steps is not None and dense is not None else None
    if shorter is not None and shorter.outcome == "better":
        sentences.append(
            f"Shorter training alone, on all samples, gives {signed(shorter.mean)} pp over dense "
            f"({span(shorter)}): that part is no merit of any coreset."
        )
    return sentences


def _preservation_alone(block: Block) -> list[str]:
    """Say whether preservation without pruning has what a joint arm has over the baseline."""
    alone = block.row(f"{block.baseline}+preserve")
    if alone is None or alone.minus_baseline is None or alone.minus_baseline.outcome != "better":
        return []
    sentences = []
    for row in block.joint_rows:
        rest = paired_difference(row.by_seed, alone.by_seed)
        if row.minus_baseline is None or row.minus_baseline.outcome != "better" or rest is None:
            continue
        adds = {"better": "adds to that", "worse": "takes from that", "unclear": "adds nothing that could be shown"}
        sentences.append(
            f"State preservation without pruning ({alone.arm}) gives {signed(alone.minus_baseline.mean)} pp over "
            f"{block.baseline}; pruning as well ({row.arm}) {adds.get(rest.outcome, 'is not told apart by one seed')} "
            f"({signed(rest.mean)} pp, {span(rest)})."
        )
    return sentences


def _wrong_labels(block: Block) -> list[str]:
    """Say what share of the last coresets has wrong labels, where labels were made wrong."""
    rows = [row for row in block.rows if row in block.joint_rows or row.arm in (block.baseline, block.random)]
    known = sorted((row.noise_ratio, row.arm) for row in rows if row.noise_ratio is not None)
    if not block.setting.noise or not known:
        return []
    shares = listed([f"{percent(ratio)} in {arm}" for ratio, arm in known])
    return [f"Wrong labels in the last coreset: {shares}; in all training data {percent(block.setting.noise)}."]


def _costs(block: Block) -> list[str]:
    """Say what the joint arms and the baseline cost, selection included, as shares of dense where there is one."""
    baseline = block.row(block.baseline)
    rows = [*block.joint_rows, *([baseline] if baseline is not None else [])]
    if not rows:
        return []
    parts = []
    for row in rows:
        if row.flops_relative is None or row.seconds_relative is None:
            parts.append(f"{row.arm} {flops(row.flops)} and {seconds(row.seconds)}")
        else:
            parts.append(f"{row.arm} {brief_percent(row.flops_relative)} and {brief_percent(row.seconds_relative)}")
    dense = KINDS[block.setting.kind].dense
    unit = f"As shares of {dense}, in FLOPs and in seconds" if block.row(dense) is not None else "FLOPs and seconds"
    shares = [f"{brief_percent(row.selection_share)} in {row.arm}" for row in rows if row.selection_share]
    choosing = f" Choosing samples is part of these FLOPs: {listed(shares)}." if shares else ""
    return [f"{unit}: {'; '.join(parts)}.{choosing}"]


def _at_equal_cost(blocks: Sequence[Block]) -> list[Finding]:
    findings = []
    for block in blocks:
        row = block.row(block.matched_arm) if block.matched_arm else None
        if row is not None:
            texts = _against(row, block, [other.arm for other in block.rows if other is not row])
            findings += [Finding("At equal cost", f"With all at the cost of {row.arm}: {text}") for text in texts]
    return findings


def seed_range(blocks: Sequence[Block]) -> str:
    """Return how many seeds the rows have: `5 seeds`, or `3 to 5 seeds`."""
    counts = [row.n for block in blocks for row in block.rows]
    low, high = min(counts), max(counts)
    return counted(high, "seed") if low == high else f"{low} to {counted(high, 'seed')}"


_COUNTED = (
    "FLOPs count every phase, selection included, and leave monitoring out; those that masks save are theoretical, "
    "as dense kernels do not run faster on zeros.",
    "FLOPs and seconds are those of all selectors, choices and targets; monitoring is left out. The paper's convention "
    "counts selectors alone, and is no count of operations.",
)


def _reading(blocks: Sequence[Block]) -> tuple[str, ...]:
    return (
        f"Intervals are 95 % t-intervals over {seed_range(blocks)}; differences are paired by seed, in percentage "
        "points (pp) of last-epoch test accuracy. They are not corrected for the number of comparisons.",
        "An interval that holds 0 means that no difference could be shown, not that there is none; "
        "it speaks of other seeds, not of other data sets or networks.",
        *dict.fromkeys(_COUNTED[block.setting.kind == ASKING] for block in blocks),
    )
