//! An assembler of the few eBPF instructions that we need, by name.
//!
//! Source: Documentation/bpf/standardization/instruction-set.rst of the kernel.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::sys::Sys;
use crate::sys::bpf::Instruction;

/// A register. A call reads R1 to R5 and leaves its result in R0; R6 to R9 keep their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Register {
    R0 = 0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    /// The end of the stack, which grows down; read only.
    Stack,
}

/// How many bytes an instruction reads or writes.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Width {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// When a jump is taken; numbers are unsigned.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum When {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    NotEqual = 0x50,
}

/// What is done with a register and a number.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Operation {
    Add = 0x00,
    Multiply = 0x20,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Modulo = 0x90,
    ExclusiveOr = 0xa0,
    Set = 0xb0,
}

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

const CLASS_LOAD: u8 = 0x00;
const CLASS_LOAD_MEMORY: u8 = 0x61;
const CLASS_STORE_MEMORY: u8 = 0x63;
const CLASS_ATOMIC: u8 = 0xc3;
const CLASS_ARITHMETIC_32: u8 = 0x04;
const CLASS_ARITHMETIC_64: u8 = 0x07;
const CLASS_JUMP: u8 = 0x05;
const SOURCE_REGISTER: u8 = 0x08;
const WIDE_IMMEDIATE: u8 = 0x18;
const MAP_FD: u8 = 1;
const MAP_VALUE: u8 = 2;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const FETCH: i32 = 0x01;

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    /// Jumps whose place is not known yet: where, and to what.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u8, destination: Register, source: u8, offset: i16, immediate: i32) {
        let registers = destination as u8 | source << 4;
        self.code.push(Instruction { code, registers, offset, immediate });
    }

    /// to = from
    pub(crate) fn copy(&mut self, to: Register, from: Register) {
        self.push(CLASS_ARITHMETIC_64 | Operation::Set as u8 | SOURCE_REGISTER, to, from as u8, 0, 0);
    }

    /// register = register (operation) number, in 64 bits
    pub(crate) fn number(&mut self, operation: Operation, register: Register, number: i32) {
        self.push(CLASS_ARITHMETIC_64 | operation as u8, register, 0, 0, number);
    }

    /// register = register (operation) number, in 32 bits; the upper half becomes 0
    pub(crate) fn number_32(&mut self, operation: Operation, register: Register, number: i32) {
        self.push(CLASS_ARITHMETIC_32 | operation as u8, register, 0, 0, number);
    }

    /// register = register (operation) other, in 64 bits
    pub(crate) fn register(&mut self, operation: Operation, register: Register, other: Register) {
        self.push(CLASS_ARITHMETIC_64 | operation as u8 | SOURCE_REGISTER, register, other as u8, 0, 0);
    }

    /// register = register (operation) other, in 32 bits; the upper half becomes 0
    pub(crate) fn register_32(&mut self, operation: Operation, register: Register, other: Register) {
        self.push(CLASS_ARITHMETIC_32 | operation as u8 | SOURCE_REGISTER, register, other as u8, 0, 0);
    }

    /// to = memory[base + offset]
    pub(crate) fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.push(CLASS_LOAD_MEMORY | width as u8, to, base as u8, offset, 0);
    }

    /// memory[base + offset] = from
    pub(crate) fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.push(CLASS_STORE_MEMORY | width as u8, base, from as u8, offset, 0);
    }

    /// to = the address of the stack's memory[-below]
    pub(crate) fn stack_address(&mut self, to: Register, below: i16) {
        self.copy(to, Register::Stack);
        self.number(Operation::Add, to, -i32::from(below));
    }

    /// Atomic: register = the old value of the four bytes at memory[base + offset], to which it is added
    pub(crate) fn fetch_and_add(&mut self, base: Register, offset: i16, register: Register) {
        self.push(CLASS_ATOMIC | Width::Word as u8, base, register as u8, offset, FETCH);
    }

    /// Atomic: register is added to the eight bytes at memory[base + offset]
    pub(crate) fn add_atomically(&mut self, base: Register, offset: i16, register: Register) {
        self.push(CLASS_ATOMIC | Width::Double as u8, base, register as u8, offset, 0);
    }

    /// to = a map, as calls take it
    pub(crate) fn map(&mut self, to: Register, map: BorrowedFd) {
        self.wide(to, MAP_FD, map.as_raw_fd());
    }

    /// to = the address of the first value of an array map
    pub(crate) fn map_value(&mut self, to: Register, map: BorrowedFd) {
        self.wide(to, MAP_VALUE, map.as_raw_fd());
    }

    fn wide(&mut self, to: Register, kind: u8, low: i32) {
        self.push(CLASS_LOAD | WIDE_IMMEDIATE, to, kind, 0, low);
        self.push(0, Register::R0, 0, 0, 0);
    }

    /// A new label, to be placed once.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(crate) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP, Register::R0, 0, 0, 0);
    }

    pub(crate) fn jump_if(&mut self, register: Register, when: When, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | when as u8, register, 0, 0, number);
    }

    pub(crate) fn jump_if_register(&mut self, register: Register, when: When, other: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | when as u8 | SOURCE_REGISTER, register, other as u8, 0, 0);
    }

    /// R0 = helper(R1, ..., R5)
    pub(crate) fn call(&mut self, helper: i32) {
        self.push(CLASS_JUMP | CALL, Register::R0, 0, 0, helper);
    }

    /// Ends with a result.
    pub(crate) fn exit(&mut self, result: i32) {
        self.number(Operation::Set, Register::R0, result);
        self.push(CLASS_JUMP | EXIT, Register::R0, 0, 0, 0);
    }

    /// The instructions, with every jump resolved.
    pub(crate) fn finish(mut self) -> Sys<Vec<Instruction>> {
        for (at, label) in &self.jumps {
            let to = self.labels.get(label.0).copied().flatten().ok_or(Errno::EINVAL)?;
            self.code[*at].offset = (to as isize - *at as isize - 1) as i16;
        }
        Ok(self.code)
    }
}
