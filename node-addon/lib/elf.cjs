'use strict';

// Looks at a library's file before the system does: mapping one that was cut short ends the process with SIGBUS.

const fs = require('node:fs');

// The processor that the header of a Linux library names.
const ELF_MACHINES = { x64: 62, arm64: 183, riscv64: 243, loong64: 258 };

/** What is wrong with an addon's file, in words; undefined if nothing is. */
function damage(file) {
  const header = Buffer.alloc(64);
  let size;
  const fd = fs.openSync(file, 'r');
  try {
    if (!fs.fstatSync(fd).isFile()) return 'is not a file';
    size = fs.fstatSync(fd).size;
    fs.readSync(fd, header, 0, header.length, 0);
  } finally {
    fs.closeSync(fd);
  }
  if (size < header.length || header.toString('latin1', 0, 4) !== '\x7fELF') {
    return 'is damaged, or built for another system';
  }
  const machine = header.readUInt16LE(18);
  if (header[4] !== 2 || header[5] !== 1 || (ELF_MACHINES[process.arch] ?? machine) !== machine) {
    return 'is built for another processor';
  }
  // The table of sections is what a linker writes last.
  const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
  return size < end ? 'is damaged: it was cut short' : undefined;
}

module.exports = { damage };
