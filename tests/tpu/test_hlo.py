from ttc_jax.tpu.hlo import Hlo

# ruff: noqa: E501
# A loop of three turns: a product of the weights, and a row written into a cache.
TEXT = """\
HloModule jit_f, is_scheduled=true

%write (p.0: bf16[64,128], p.1: bf16[1,128], p.2: s32[]) -> bf16[64,128] {
  %p.0 = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %p.1 = bf16[1,128]{1,0:T(8,128)(2,1)} parameter(1)
  %p.2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %dus = bf16[64,128]{1,0:T(8,128)(2,1)} dynamic-update-slice(%p.0, %p.1, %p.2, %zero)
}

%body (state: (s32[], bf16[64,128], f32[128,128])) -> (s32[], bf16[64,128], f32[128,128]) {
  %state = (s32[], bf16[64,128]{1,0:T(8,128)(2,1)}, f32[128,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %cache = bf16[64,128]{1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %w = f32[128,128]{1,0:T(8,128)} get-tuple-element(%state), index=2
  %x = f32[8,128]{1,0:T(8,128)S(1)} broadcast(%i), dimensions={}, metadata={op_name="jit(f)/while/body/token/x"}
  %y = f32[8,128]{1,0:T(8,128)S(1)} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(f)/while/body/token/dot"}
  %sum = f32[8,128]{1,0:T(8,128)S(1)} all-reduce(%y), to_apply=%add, metadata={op_name="jit(f)/while/body/token/psum"}
  %row = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} convert(%sum)
  %new = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%cache, %row, %i), kind=kLoop, calls=%write
  ROOT %next = (s32[], bf16[64,128]{1,0:T(8,128)(2,1)}, f32[128,128]{1,0:T(8,128)}) tuple(%i, %new, %w)
}

%condition (state.1: (s32[], bf16[64,128], f32[128,128])) -> pred[] {
  %state.1 = (s32[], bf16[64,128]{1,0:T(8,128)(2,1)}, f32[128,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(3)
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (start: (s32[], bf16[64,128], f32[128,128])) -> (s32[], bf16[64,128], f32[128,128]) {
  %start = (s32[], bf16[64,128]{1,0:T(8,128)(2,1)}, f32[128,128]{1,0:T(8,128)}) parameter(0)
  ROOT %loop = (s32[], bf16[64,128]{1,0:T(8,128)(2,1)}, f32[128,128]{1,0:T(8,128)}) while(%start), condition=%condition, body=%body, metadata={op_name="jit(f)/while"}
}
"""
WEIGHTS, ROW = 128 * 128 * 4, 8 * 128 * 2  # a row takes a tile of eight


def test_a_turn_reads_the_weights_and_writes_a_row():
    program = Hlo(TEXT)
    turn = program.cost(program.loop("token"))
    assert turn.flops == 2 * 8 * 128 * 128
    assert abs(turn.bytes - WEIGHTS - ROW) <= 8  # and a counter


def test_a_loop_counts_as_often_as_it_runs():
    program = Hlo(TEXT)
    turn, whole = program.cost(program.loop("token")), program.cost()
    assert whole.flops == 3 * turn.flops
    [reduced] = whole.collectives.values()
    assert (reduced.kind, reduced.count, reduced.bytes) == ("all-reduce", 3, 3 * 8 * 128 * 4)


def test_a_loop_of_unknown_length_counts_as_the_caller_says():
    program = Hlo(TEXT.replace("constant(3)", "get-tuple-element(%state.1), index=0"))
    assert program.cost(trips=5).flops == 5 * program.cost(trips=1).flops


def test_dilated_windows_count_the_numbers_that_meet():
    # A batched product of 4 times [2, 8] × [8, 16], as XLA:TPU writes it.
    text = """\
ENTRY %main (a: bf16[4,2,8], b: bf16[4,8,16]) -> f32[4,2,16] {
  %a = bf16[4,2,8]{2,1,0} parameter(0)
  %b = bf16[4,8,16]{2,1,0} parameter(1)
  ROOT %y = f32[4,2,16]{2,1,0} convolution(%a, %b), window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf
}
"""
    assert Hlo(text).cost().flops == 2 * 4 * 2 * 8 * 16


def test_a_slice_of_int8_in_smaller_tiles_reads_no_more_than_itself():
    text = """\
%tiles (input: s8[64,128]) -> s8[64,128] {
  %input = s8[64,128]{1,0:T(32,128)(4,1)} parameter(0)
  ROOT %copy = s8[64,128]{1,0:T(8,128)(4,1)} copy(%input)
}

%slice (p.0: s8[64,128], p.1: s32[]) -> s8[8,128] {
  %p.0 = s8[64,128]{1,0:T(32,128)(4,1)} parameter(0)
  %view = s8[64,128]{1,0:T(8,128)(4,1)} fusion(%p.0), kind=kLoop, output_to_operand_aliasing={{}: (0, {})}, calls=%tiles
  %p.1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %part = s8[8,128]{1,0:T(8,128)(4,1)} dynamic-slice(%view, %p.1, %zero), dynamic_slice_sizes={8,128}
}

ENTRY %main (cache: s8[64,128], at: s32[]) -> s8[8,128] {
  %cache = s8[64,128]{1,0:T(32,128)(4,1)} parameter(0)
  %at = s32[]{:S(6)} parameter(1)
  ROOT %block = s8[8,128]{1,0:T(8,128)(4,1)} fusion(%cache, %at), kind=kLoop, calls=%slice
}
"""
    assert Hlo(text).cost().bytes == 2 * 8 * 128


def test_host_transfers_are_found():
    assert Hlo(TEXT).host_transfers() == []
    text = TEXT.replace("convert(%sum)", "convert(%sum)\n  %out = token[] outfeed(%row)")
    assert Hlo(text).host_transfers() == ["out"]
