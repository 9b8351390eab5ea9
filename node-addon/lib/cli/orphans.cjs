'use strict';

// Process 1 of a container inherits every process whose parent died, and is the only one who can bury them. Our own
// workers are left alone: Node waits for those, and would miss them.

const fs = require('node:fs');

/** Pids of the dead children of process `parent` that nobody has waited for. */
function zombiesOf(parent) {
  return fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name)).filter((pid) => {
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return state === 'Z' && Number(ppid) === parent;
    } catch {
      return false;
    }
  }).map(Number);
}

/** `isOurs(pid)` says whether Node itself waits for that child; `reap(pid)` takes the exit status of another. */
function bury(parent, isOurs, reap) {
  for (const pid of zombiesOf(parent)) if (!isOurs(pid)) reap(pid);
}

/** From now on, if this is process 1. */
function buryOrphans(isOurs, reap) {
  if (process.pid === 1) process.on('SIGCHLD', () => bury(process.pid, isOurs, reap));
}

module.exports = { bury, buryOrphans };
