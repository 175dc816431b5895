"""Machine code is read as nvdisasm prints it."""

from vimserve.loadtests.gpu_check.simulator.sass import Instruction, parse

# Lines that nvdisasm 13.1 printed of the scan for sm_90, with shorter loops.
LISTING = """
.L_x_8:
        /*0000*/                   MUFU.EX2 R22, R21 ;             /* 0x0000001500167308 */
                                                                   /* 0x000e220000000800 */
.L_x_7:
        /*0010*/                   FMUL R67, R22, R67 ;            /* 0x0000004316437220 */
                                                                   /* 0x021fe20000400000 */
        /*0020*/              @!P1 LDG.E.U16 R81, desc[UR6][R20.64] ; /* 0x0000000614519981 */
                                                                   /* 0x000164000c1e1500 */
        /*0030*/               @P3 BRA `(.L_x_7) ;                 /* 0xfffffff400ac3947 */
                                                                   /* 0x000fec000383ffff */
        /*0040*/                   BRA `(.L_x_8) ;                 /* 0xfffffff0005c7947 */
                                                                   /* 0x000fea000383ffff */
.L_x_9:
        /*0050*/                   BRA `(.L_x_9);                  /* 0xfffffffc00fc7947 */
                                                                   /* 0x000fc0000383ffff */
"""


def test_control_fields() -> None:
    exponential, product, load, *_ = parse(LISTING).instructions

    assert exponential == Instruction("MUFU.EX2 R22, R21", stall=1, result=0)
    assert product == Instruction("FMUL R67, R22, R67", stall=1, waits=(0, 5))
    assert (load.stall, load.result, load.operands, load.waits) == (2, 5, 0, ())


def test_names() -> None:
    load = parse(LISTING).instructions[2]

    assert load.name == "LDG.E.U16"
    assert load.operation == "LDG"


def test_the_hot_loop_is_innermost() -> None:
    program = parse(LISTING)

    assert program.loops == ((1, 3), (0, 4))  # the last branch goes to itself: padding
    assert [i.operation for i in program.hot_loop()] == ["FMUL", "LDG", "BRA"]


def test_of_two_loops_the_one_with_exponentials_is_hot() -> None:
    exponential, product = Instruction("MUFU.EX2 R0, R0"), Instruction("FMUL R0, R0, R0")
    program = parse(LISTING)
    two = type(program)((product, product, exponential, product), ((0, 1), (2, 3)))

    assert two.hot_loop() == (exponential, product)


def test_prefetches_into_the_first_level() -> None:
    assert Instruction("CCTL.E.PF1 [R32]").prefetches
    assert not Instruction("CCTL.IVALL").prefetches
