'use strict';

const fs = require('node:fs');

// Where /proc does not tell.
const USUAL = 1024;
// It may change, though not often. In milliseconds.
const LOOK_AGAIN = 1000;

let limit = USUAL;
let looked = -Infinity;

/** A part of the descriptors that this process may have, at most `most`. */
function shareOfDescriptors(part, most) {
  if (performance.now() - looked > LOOK_AGAIN) {
    looked = performance.now();
    try {
      limit = Number(/^Max open files\s+(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'))[1]);
    } catch {
      limit = USUAL;
    }
  }
  return Math.min(most, Math.floor(limit / part));
}

module.exports = { shareOfDescriptors };
