"""The letters and words that every file of ttc_jax uses.

Axes, in shapes and in name suffixes (`scores_BxN` has shape [B, N])

    B  questions in a batch              L  layers
    N  candidates of a question          D  model width
    R  rounds of a search                H  query heads
    T  tokens of an answer or a chunk    K  key/value heads
    P  tokens of a prompt                G  query heads per key/value head, H / K
    S  length of a KV cache              h  size of a head
    V  vocabulary                        F  width of the feed-forward layer

Words

    generator           the language model that writes answers
    verifier            a model that scores answers: a PRM or an ORM
    PRM                 process reward model: a score for every step of an answer
    ORM                 outcome reward model: one score for a whole answer
    judge               a language model that is asked about answers, as a verifier or to choose one
    step                a part of an answer up to a delimiter, here a line
    candidate           one of the N answers to a question
    row                 the place of a candidate in a batch; active while its tokens are drawn, else
                        paused, at the end of a step, or done
    round               a step of every row, and the selection step behind it
    selection step      scores the rows' steps, and selects which row each one goes on from
    shared prefix       tokens that all prompts begin with, such as worked examples: read once
    bridge              writes steps in the tokens of a verifier with another tokenizer, on the host
    rollout             an answer that goes on from the first tokens of another one
    generation budget   candidates that a question may cost, N; lookahead charges N (k + 1)
    pass@1, pass@N      share of candidates that are right; of questions with at least one right
    majority            the answer that most candidates give
    best-of-N           the answer of the candidate with the highest score
    best-of-N weighted  the answer whose candidates have the highest sum of scores
    beam width          M: a beam search keeps N / M candidates and continues each M times
    lookahead depth     k: greedy steps rolled out, scored and thrown away
    revision chain      answers to a question in sequence, each written with the earlier in context
    difficulty bin      a group of questions of similar pass@1 (oracle) or score (predicted)
    KV cache            keys and values of the tokens read so far, per layer
    history             what a parent had written, stored once for all rows that go on from it
    prefill             reads a prompt into the KV cache in one pass
    decode              writes one token at a time from the KV cache
    ledger              the count of generations, tokens and FLOPs of a run
"""
