'use strict';

// A worker may be a wrapper that does not pass its place on. Then the server that it starts listens alone, and finds the port of the
// other workers' servers taken. All of it is read from /proc.

const fs = require('node:fs');
const { commandOf, parentOf } = require('../ancestors.cjs');
const { isWrapper } = require('../wrapper.cjs');

// In /proc/net/tcp and /proc/net/unix.
const LISTENS = '0A';
const ACCEPTS = '00010000';
const LONGEST = 100;

function read(file) {
  try {
    return fs.readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

function list(folder) {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

/** Every process with those of its ancestors that are below `top`, itself first. */
function familyOf(top) {
  const parents = new Map(list('/proc').filter((name) => /^[0-9]+$/.test(name)).map((name) => [Number(name), parentOf(name)]));
  const lineages = [];
  for (const pid of parents.keys()) {
    const lineage = [];
    let at = pid;
    for (; at !== undefined && at !== top && lineage.length < 100; at = parents.get(at)) lineage.push(at);
    if (at === top && lineage.length > 0) lineages.push([...lineage, top]);
  }
  return lineages;
}

/** By inode of a listening socket: where it listens, in words. */
function listeners() {
  const rows = (name) => read(`/proc/self/net/${name}`).split('\n').slice(1).map((line) => line.trim().split(/\s+/));
  const tcp = [...rows('tcp'), ...rows('tcp6')].filter((fields) => fields[3] === LISTENS)
    .map((fields) => [fields[9], `port ${Number.parseInt(fields[1].slice(-4), 16)}`]);
  const unix = rows('unix').filter((fields) => fields[3] === ACCEPTS && fields[7] !== undefined).map((fields) => [fields[6], fields[7]]);
  return new Map([...tcp, ...unix]);
}

function placeOf(pid, places) {
  // What a wrapper listens on is its own affair.
  if (commandOf(pid).slice(1).some(isWrapper)) return undefined;
  for (const fd of list(`/proc/${pid}/fd`)) {
    let target = '';
    try {
      target = fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      // It was closed meanwhile.
    }
    const place = places.get(/^socket:\[([0-9]+)\]$/.exec(target)?.[1]);
    if (place !== undefined) return place;
  }
  return undefined;
}

function printable(text) {
  return text.replace(/\s+/g, ' ').replace(/\p{C}/gu, '?');
}

function shown(pid) {
  const all = commandOf(pid);
  const ours = all.findIndex((word) => word.endsWith('/lib/cli/preload.cjs'));
  if (ours > 0) all.splice(ours - 1, 2);
  const [program = '', ...rest] = all;
  const words = printable([program.split('/').pop(), ...rest].join(' ')).trim();
  return `${words.length > LONGEST ? `${words.slice(0, LONGEST)}...` : words} (pid ${pid})`;
}

function variable(pid, name) {
  return read(`/proc/${pid}/environ`).split('\0').find((one) => one.startsWith(`${name}=`));
}

// Who lost the place, and what to do.
function blame([server, ...above]) {
  const starter = above.find((pid) => variable(pid, 'CL_CHANNEL_FD') !== undefined) ?? above[0];
  const watcher = above.find((pid) => commandOf(pid).some((word) => /^--watch(?:-path)?(?:=|$)/.test(word)));
  if (watcher !== undefined) return `${shown(watcher)} keeps the worker's place to itself; leave --watch away, and reload with SIGHUP`;
  if (variable(server, 'CL_CHANNEL_FD') !== undefined && !variable(server, 'NODE_OPTIONS')?.includes('register.cjs')) {
    return `${shown(above[0])} replaces NODE_OPTIONS, which brings the worker's place; write NODE_OPTIONS="... $NODE_OPTIONS"`;
  }
  return `${shown(starter)} does not pass the worker's place on; give cluster-rs the program that listens instead of it`;
}

/** What hides the server of a worker's process, in a sentence; undefined if no process below it listens by itself. */
function hiddenServer(pid) {
  const places = listeners();
  for (const lineage of familyOf(pid)) {
    const place = placeOf(lineage[0], places);
    if (place !== undefined) return `${shown(lineage[0])} listens on ${printable(place)} alone, because ${blame(lineage)}`;
  }
  return undefined;
}

module.exports = { hiddenServer };
