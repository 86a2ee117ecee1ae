"""Detects sentences that say the opposite of their spans: opposite words, exchanged roles, added or missing negations.

Based on a word list and the context of each word. Irony, double negation and unlisted opposites are not detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kb.store.fulltext import stem
from service.answering.check.clauses import Clause, Word

# Each line is an axis with the words of its two ends. A word may be on several axes.
_AXES = """
higher greater larger increase rise rose risen raise grow grew grown gain climb boost lift inflate amplify overstate \
expand improve help up enhance widen add speed unlock recover restore : lower smaller decrease fall fell fallen drop \
reduce lower shrink shrank decline deflate hurt worsen down diminish narrow cut lose lost lessen slow vanish \
disappear dwindle plunge weaken suffer remove level flatten plateau stagnate stall
more greater larger bigger higher high exceed above further longer upward : fewer less smaller lower below shorter under
most largest highest greatest strongest best top biggest : least smallest lowest weakest worst bottom fewest
better best improve good outperform ahead beat won win surpass exceed outweigh overtake overtook overtaken beaten \
above : worse worst poor bad behind trail below lose lost inferior lag
long longer : short shorter
large larger wide wider broad big high : small smaller narrow narrower little tiny low
strong stronger strongest strongly : weak weaker weakest weakly
hard harder difficult : easy easier trivial
early earlier before : late later after
early : late
first : last
fast faster quickly quick : slow slower slowly
always : never
favour : against
rarely seldom hardly : often usually frequently mostly always
cheap cheaper : expensive costly
clean cleaner clear : dirty murky
helpful : harmful
accept : reject
right correct true valid : wrong incorrect false invalid
support confirm agree favour : contradict refute disagree oppose
open unlock : close
success succeed : failure fail
positive : negative
inside within : outside
include contain : exclude lack
old older : new newer
possible : impossible
likely : unlikely
law established proven : conjecture observation
select selection : create creation
many most : few
like prefer : dislike
surge soar escalate accelerate deepen broaden lengthen : plummet slump decelerate fade dampen suppress curb shorten
allow permit enable let : forbid prevent disable prohibit block
cause trigger : prevent
start begin : finish
present presence : absent absence
rich : poor
dense : sparse
simple : complex complicated
common frequent : rare uncommon infrequent
major : minor
maximum max upper : minimum min
deep : shallow
near close : far distant
next : previous
overestimate overstate exaggerate : underestimate understate
optimistic : pessimistic
sufficient enough adequate suffice : insufficient inadequate scarce
help aid facilitate : hinder impede obstruct
explicit : implicit
internal : external
full complete : empty incomplete partial
seen : unseen
prefer : avoid
retain preserve keep : discard drop
combine merge join : separate split
exact precise : approximate rough
random : systematic
concentrate : spread
converge : diverge
encourage : discourage
strength advantage benefit : weakness disadvantage harm drawback
majority : minority
safe : dangerous unsafe
stable steady : unstable volatile
global : local
before precede : after follow
old : young
hot : cold
familiar known : novel unknown unfamiliar
genuine real : fake spurious
honest candid : dishonest
voluntary : forced
dependent : independent
fresh new : stale old
static : dynamic
pro : con
gain win : loss
top : bottom
forward : backward
known : unknown
flat : steep
tight : loose
thick : thin
heavy : light
full : empty
modest : huge
hide hidden conceal : reveal visible show
agree : differ
gather : scatter
save : waste
tighten : loosen
trust : doubt
remember : forget
append : delete
push : pull
appear emerge : disappear vanish
active : passive
together : alone
certain confident : uncertain doubtful
worthwhile : pointless
harmless : harmful
central : marginal
gradual gradually : sudden suddenly abrupt
theory theoretical : practice practical
input : output
keep kept : lose lost
"""
_NEGATIONS = frozenset(
    """
    not no never cannot none neither nor without nothing nobody n't isn't aren't wasn't weren't doesn't don't
    didn't can't won't couldn't wouldn't hasn't haven't shouldn't
    """.split()
)
_WEAK_NEGATIONS = frozenset(
    stem(word)
    for word in """
    fail lack hardly rarely seldom little few impossible unable only merely less least fewer instead rather
    unlikely avoid prevent stop refuse absent missing beyond away alone zero far weak free but just however
    different decline refute against left leave remain stay unchanged same
    """.split()
)
_NEGATING_PREFIXES = ("un", "in", "im", "non-", "non", "dis", "ir")
_NOUN_HOMOGRAPHS = frozenset("gains rates drops losses".split())  # frequent nouns that are not cues
_BEFORE_NOUNS = frozenset("the a an many some these those of any no its their such all".split())
_FAILURE_VERBS = frozenset(map(stem, "fail unable refuse".split()))
_CONTEXT_WORDS = 3  # context words on each side of a cue
_NEGATION_SCOPE = 4  # content words after a negation in its scope


@dataclass(frozen=True, slots=True)
class _Cue:
    word: str
    ends: frozenset[tuple[int, int]]  # (axis, end)
    denied: bool
    near: frozenset[str]
    beside: tuple[str, str]
    compares: bool
    passive: bool
    left: frozenset[str]
    right: frozenset[str]


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, frozenset[tuple[int, int]]]:
    table: dict[str, set[tuple[int, int]]] = {}
    for axis, line in enumerate(_AXES.strip().splitlines()):
        for end, side in enumerate(line.split(":")):
            for word in side.split():
                table.setdefault(stem(word), set()).add((axis, end))
    return {word: frozenset(ends) for word, ends in table.items()}


def _axis_ends(word: Word) -> frozenset[tuple[int, int]]:
    """The (axis, end) pairs of a word, including comparatives and superlatives."""
    low, lexicon = word.text.casefold(), _lexicon()
    forms = [word.stem, *(stem(low[: -len(end)]) for end in ("est", "er") if low.endswith(end) and len(low) > len(end) + 2)]
    return next((lexicon[form] for form in forms if form in lexicon), frozenset())


def is_cue(word: Word) -> bool:
    return bool(_axis_ends(word))


def find_opposite(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """The word by which a sentence says the opposite of its spans; empty if there is none.

    A cue is compared with the cues of the spans with the most similar context. It conflicts if all of them are at the other
    end of an axis.
    """
    span_cues = [cue for clause in spans for cue in _cues(clause)]
    for clause in sentence:
        for cue in _cues(clause):
            comparable = [other for other in span_cues if _agreement(cue, other)]
            if not comparable:
                continue
            best = max(_context_overlap(cue, other) for other in comparable)
            closest = [other for other in comparable if _context_overlap(cue, other) == best]
            if (best or len(comparable) == 1) and all(_agreement(cue, other) < 0 for other in closest):
                return cue.word
    return ""


def _context_overlap(one: _Cue, other: _Cue) -> float:
    """The similarity of the contexts of two cues; adjacent content words count more."""
    same_side = sum(mine == theirs for mine, theirs in zip(one.beside, other.beside, strict=True))
    beside = 0.5 * len(frozenset(one.beside) & frozenset(other.beside) - {""}) + 0.5 * same_side
    beside += 0.5 * (one.compares == other.compares)
    return len(one.near & other.near) + beside + 1.25 * (one.word.casefold() == other.word.casefold())


def _agreement(one: _Cue, other: _Cue) -> int:
    """1 at the same end of an axis, -1 at opposite ends, 0 without a common axis. Exchanged roles reverse the sign."""
    axes = {axis for axis, _ in one.ends} & {axis for axis, _ in other.ends}
    if not axes:
        return 0
    side = 1 if one.ends & other.ends else -1
    if one.passive != other.passive:
        return -side if one.left & (other.left - other.right) else side
    crossed = one.left & (other.right - other.left) and one.right & (other.left - other.right)
    if crossed and not one.left & (other.left - other.right) and one.compares and other.compares:
        side = -side
    return side * (-1 if one.denied != other.denied else 1)


_BE_FORMS = frozenset("is are was were be been being still also often".split())
_CONTEST_VERBS = frozenset(map(stem, "beat beaten outperform outperformed exceed surpass overtake overtaken outweigh".split()))
_COMPARISON_WORDS = frozenset(
    stem(word)
    for word in "beat win outperform above below ahead behind exceed surpass overtake overtook trail outweigh".split()
)


def _cues(clause: Clause) -> list[_Cue]:
    out: list[_Cue] = []
    lexicon = _lexicon()
    words = clause.words
    for i, word in enumerate(words):
        ends = _insufficient_ends() if i and _means_too_little(words[i - 1], word) else _axis_ends(word)
        if not ends or _is_noun(words, i):
            continue
        axes = {axis for axis, _ in ends}
        before = [w for w in words[:i] if w.content and not axes & {axis for axis, _ in lexicon.get(w.stem, ())}]
        after = [w for w in words[i + 1 :] if w.content and not axes & {axis for axis, _ in lexicon.get(w.stem, ())}]
        near = frozenset(w.stem for w in (*before[-_CONTEXT_WORDS:], *after[:_CONTEXT_WORDS]))
        if _beside_opposite(words, i, ends) or _belongs_to_number(words, i):
            continue
        denied = any(_is_negation(w) or w.stem in _FAILURE_VERBS for w in words[max(0, i - 6) : i])
        denied ^= any(w.text.casefold() in ("rather", "instead") for w in words[max(0, i - 3) : i])
        passive = (
            word.stem in _CONTEST_VERBS
            and 0 < i < len(words) - 1
            and words[i + 1].text == "by"
            and words[i - 1].text in _BE_FORMS
        )
        beside = (before[-1].stem if before else "", after[0].stem if after else "")
        compares = word.stem in _COMPARISON_WORDS or any(w.text == "than" for w in words[i + 1 : i + 6])
        left, right = frozenset(w.stem for w in before), frozenset(w.stem for w in after)
        out.append(_Cue(word.text, ends, denied, near, beside, compares, passive, left, right))
    return out


def _beside_opposite(words: Sequence[Word], i: int, ends: frozenset[tuple[int, int]]) -> bool:
    """Whether a cue is next to its opposite, as in “right or wrong”."""
    opposites = {(axis, 1 - end) for axis, end in ends}
    around = [*words[max(0, i - 2) : i], *words[i + 1 : i + 3]]
    return any(w.text == "or" for w in around) and any(
        w.text == "not" or _lexicon().get(w.stem, frozenset()) & opposites for w in around
    )


def _means_too_little(before: Word, word: Word) -> bool:
    """Whether two words mean “insufficient”, as in “too few”."""
    return before.text == "too" and word.text in ("few", "little", "small", "short", "weak")


def _insufficient_ends() -> frozenset[tuple[int, int]]:
    return _lexicon()[stem("insufficient")]


def _belongs_to_number(words: Sequence[Word], i: int) -> bool:
    """Whether a cue belongs to a number, as in “near .031” or “no fewer than six”."""
    after = words[i + 1].text if i + 1 < len(words) else ""
    return (words[i].text in ("near", "close") and after[:1].isdigit()) or (
        after == "than" and i > 0 and words[i - 1].text == "no"
    )


def _is_noun(words: Sequence[Word], i: int) -> bool:
    """Whether a word such as “gains” is a noun, without a direction."""
    around = {word.text.casefold() for word in words[max(0, i - 3) : i]} & _BEFORE_NOUNS
    following = words[i + 1].text.casefold() if i + 1 < len(words) else ""
    return words[i].text.casefold() in _NOUN_HOMOGRAPHS and (bool(around) or following in ("of", "in", "from", "over", "under"))


def _is_negation(word: Word) -> bool:
    return word.text.casefold().replace("’", "'") in _NEGATIONS


def find_negation(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A negation that is only in the sentence or only in the spans; empty if there is none.

    The scope of a negation is the next content words of its clause. It is compared with the most similar clause.
    """
    return _unmatched_negation(sentence, spans) or _unmatched_negation(spans, sentence)


def _unmatched_negation(clauses: Sequence[Clause], others: Sequence[Clause]) -> str:
    all_stems = frozenset(word.stem for clause in clauses for word in clause.words)
    for clause in clauses:
        for i, word in enumerate(clause.words):
            if not _is_negation(word) or (i and clause.words[i - 1].text in ("or", "whether")):
                continue
            reach = 2 if word.text.casefold() in ("without", "no") else _NEGATION_SCOPE
            scope = [w for w in clause.words[i + 1 :] if w.content][:reach]
            scope_stems = {w.stem for w in scope} or {w.stem for w in clause.words[:i] if w.content}
            most = max((len(scope_stems & c.stems) for c in others), default=0)
            alike = [c for c in others if most and len(scope_stems & c.stems) == most and 2 * most >= len(scope_stems)]
            least = _count_negations(clause, clause.stems)
            if alike and not any(
                _count_negations(c, clause.stems) >= least or _has_weak_negation(c.words, scope_stems, all_stems) for c in alike
            ):
                return word.text
    return ""


def _count_negations(clause: Clause, about: frozenset[str]) -> int:
    """The number of negations of a clause with one of these stems in their scope."""
    count = 0
    for i, word in enumerate(clause.words):
        scope = {w.stem for w in clause.words[i + 1 :] if w.content}
        narrow = word.text.casefold() in ("no", "without") or (i > 0 and clause.words[i - 1].text in ("and", "but"))
        count += _is_negation(word) and (not narrow or not scope or bool(scope & about))
    return count


def _has_weak_negation(words: Sequence[Word], own: set[str], known: frozenset[str]) -> bool:
    """Whether the words contain a weak negation, a negating prefix, or the opposite of a negated word."""
    lexicon = _lexicon()
    opposites = {(axis, 1 - end) for denied in own for axis, end in lexicon.get(denied, ())}
    return any(
        (word.stem in _WEAK_NEGATIONS and bool({w.stem for w in _content_neighbours(words, i)} & own))
        or any(word.text.casefold().startswith(p) and stem(word.text.casefold()[len(p) :]) in own for p in _NEGATING_PREFIXES)
        or bool(lexicon.get(word.stem, frozenset()) & opposites)
        for i, word in enumerate(words)
        if word.stem not in known
    )


def _content_neighbours(words: Sequence[Word], i: int) -> list[Word]:
    """The content words next to a word, which it may negate."""
    return [w for w in words[:i] if w.content][-2:] + [w for w in words[i + 1 :] if w.content][:_NEGATION_SCOPE]


def find_negating_prefix(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word that differs from one in the spans only by a negating prefix (solvable, unsolvable), without other negation."""
    sentence_words, span_words = (
        {w.stem: w for clause in clauses if not _has_negation(clause) for w in clause.content} for clauses in (sentence, spans)
    )
    for own_stem, word in sentence_words.items():
        if own_stem not in span_words and any(
            _differ_by_prefix(word, other) for key, other in span_words.items() if key not in sentence_words
        ):
            return word.text
    return ""


def _has_negation(clause: Clause) -> bool:
    return any(_is_negation(word) or word.stem in _FAILURE_VERBS for word in clause.words)


def _differ_by_prefix(one: Word, other: Word) -> bool:
    short, long = sorted((one.text.casefold(), other.text.casefold()), key=len)
    return any(long.startswith(p) and stem(long[len(p) :]) == stem(short) for p in _NEGATING_PREFIXES)


def find_unmatched_cues(sentence: Sequence[Clause], spans: Sequence[Clause]) -> list[str]:
    """The comparison words of a sentence without a cue on the same axis in the spans."""
    span_cues = [cue for clause in spans for cue in _cues(clause)]
    cues = [cue for clause in sentence for cue in _cues(clause) if cue.compares]
    return [cue.word for cue in cues if not any(_agreement(cue, other) for other in span_cues)]
