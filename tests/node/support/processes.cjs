'use strict';
// What /proc says about processes and descriptors.

const fs = require('node:fs');

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // It ended in the meantime, or is another user's.
  }
}

function status(pid) {
  const text = read(`/proc/${pid}/stat`);
  if (text === '') return null;
  const [state, parent, group] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state, parent: Number(parent), group: Number(group) };
}

// A zombie has ended; that nobody has asked for its status yet is another question.
function isAlive(pid) {
  const found = status(pid);
  return found !== null && found.state !== 'Z' && found.state !== 'X';
}

const everyPid = () => fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);

// All living processes that carry `NAME=value` in their environment or belong to the group.
function processesOf(mark, group) {
  return everyPid().filter((pid) => {
    if (pid === process.pid || !isAlive(pid)) return false;
    return status(pid)?.group === group || read(`/proc/${pid}/environ`).split('\0').includes(mark);
  });
}

// Children of the process, those included that ended and were not waited for.
const childrenOf = (pid) => everyPid().filter((other) => status(other)?.parent === pid);

const commandOf = (pid) => read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim();

// What the descriptors of a process are: { '3': 'socket:[123]', '4': 'pidfd:77', ... }
function descriptors(pid = 'self') {
  const found = {};
  for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
      const [, of] = /pidfd/.test(target) ? /^Pid:\s*(-?\d+)/m.exec(read(`/proc/${pid}/fdinfo/${fd}`)) ?? [] : [];
      found[fd] = of === undefined ? target : `pidfd:${of}`;
    } catch {
      // The one that read the folder itself.
    }
  }
  return found;
}

// The descriptors that stand for another process or another end: these are what a cluster can leak by its work. Loops,
// timers and wake-ups of Node or the engine, and what tells the engine of its own process, are made once and stay.
function connectionsAmong(found, pid = process.pid) {
  const others = Object.values(found).filter((target) => target !== `pidfd:${pid}`);
  return others.filter((target) => /^(socket|pipe|pidfd):/.test(target)).sort();
}

// The TCP ports of 127.0.0.1, 0.0.0.0, ::1 and :: on which the process itself holds a listening socket.
function listeningPorts(pid = 'self') {
  const mine = new Set(Object.values(descriptors(pid)));
  const ports = new Set();
  for (const table of ['tcp', 'tcp6']) {
    for (const line of read(`/proc/net/${table}`).split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === '0A' && mine.has(`socket:[${fields[9]}]`)) ports.add(parseInt(fields[1].split(':')[1], 16));
    }
  }
  return [...ports].sort((a, b) => a - b);
}

module.exports = {
  childrenOf, commandOf, connectionsAmong, descriptors, isAlive, listeningPorts, processesOf, status,
};
