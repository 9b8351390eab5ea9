'use strict';

const fs = require('node:fs');

// Where /proc does not tell.
const USUAL = 1024;

/** How many descriptors this process may have. */
function descriptorLimit() {
  try {
    const [, limit] = /^Max open files\s+(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'));
    return Number(limit);
  } catch {
    return USUAL;
  }
}

/** The share of its descriptors that this process leaves to somebody else, at most `most`. */
function shareOfDescriptors(part, most) {
  return Math.min(most, Math.floor(descriptorLimit() / part));
}

module.exports = { shareOfDescriptors };
