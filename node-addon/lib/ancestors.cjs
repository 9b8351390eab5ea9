'use strict';

// Who started this process, and others, as /proc tells it.

const fs = require('node:fs');

const { isWrapper } = require('./wrapper.cjs');

const SHELL = /(?:^|\/)(?:a|ba|da|k|z)?sh$/;

/** The words of a process's command; none if it is gone or hidden. */
function commandOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** A process's parent; NaN if it is gone or hidden. */
function parentOf(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return NaN;
  }
}

/** Whether one of them started this process, itself or through shells. */
function isOfWrapper() {
  for (let pid = process.ppid; pid > 1; pid = parentOf(pid)) {
    const [program = '', ...words] = commandOf(pid);
    if (words.some(isWrapper)) return true;
    if (!SHELL.test(program)) return false;
  }
  return false;
}

module.exports = { commandOf, isOfWrapper, parentOf };
