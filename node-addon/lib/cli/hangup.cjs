'use strict';

// What SIGHUP means: a request to reload, or that the terminal was closed.

const fs = require('node:fs');

function hasTerminal() {
  try {
    fs.closeSync(fs.openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}

/** Called at the start. The result says, at a SIGHUP, whether the terminal that there was is gone. */
function watchTerminal() {
  const had = hasTerminal();
  return () => had && !hasTerminal();
}

module.exports = { watchTerminal };
