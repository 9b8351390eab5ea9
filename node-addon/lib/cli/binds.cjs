'use strict';

// The primary binds for its workers. Only its reply to a worker says what went wrong, hence this stage.

const fs = require('node:fs');
const path = require('node:path');
const { getSystemErrorName } = require('node:util');

const REASONS = {
  EADDRINUSE: 'it is taken',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'this machine has no such address',
};

/** How many addresses of one worker are noted; more are ignored. */
const ADDRESSES = 256;
const LONGEST = 500;
const LONGEST_KEPT = 5000;

/** What a worker sent, made fit for a line of ours: without control characters and newlines, and not long. */
function shown(value) {
  if (typeof value !== 'string' && typeof value !== 'number') return '?';
  const text = `${value}`.slice(0, LONGEST);
  return text.replace(/^\0/, '@').replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}

/** The stage that calls `failed({ code, text })` whenever an address that a worker asked for could not be had; see ipc.cjs. */
function watchBinds(failed) {
  const questions = new Map();
  return {
    hears(message) {
      if (message?.act !== 'queryServer' || typeof message.seq !== 'number' || questions.size >= ADDRESSES) return;
      const { addressType, address, port, fd } = message;
      // No address is as long, and nobody need answer.
      if (!(address?.length > LONGEST_KEPT)) questions.set(message.seq, { addressType, address, port, fd });
    },
    says(message) {
      const question = questions.get(message.ack);
      if (question === undefined) return;
      questions.delete(message.ack);
      if (message.errno < 0) failed(explain(question, message));
    },
  };
}

function unprivilegedFrom() {
  try {
    return Number(fs.readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
  } catch {
    return 1024;
  }
}

/** What can be said of a socket file that was refused. */
function whyNoFile(file, code) {
  if (file.startsWith('\0')) return undefined;
  const folder = path.dirname(path.resolve(file));
  const isFolder = fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory();
  if (isFolder === undefined) return `the directory ${shown(folder)} is not there; make it first`;
  if (!isFolder) return `${shown(folder)} is not a directory`;
  if (code !== 'EACCES') return undefined;
  return `permission denied; user ${process.getuid()} must be allowed to write into ${shown(folder)}`;
}

/** The refusals that need more than a fixed word: why, and what to do; undefined for others. */
function advice({ addressType, address, port }, code) {
  try {
    if (addressType === -1 && typeof address === 'string') return whyNoFile(address, code);
    if (code === 'EACCES' && port > 0 && port < unprivilegedFrom()) {
      return `ports below ${unprivilegedFrom()} need a privilege; listen on a higher one, or give the process CAP_NET_BIND_SERVICE ` +
        '(AmbientCapabilities= in a systemd unit)';
    }
  } catch {
    // What it is about cannot be looked at.
  }
  return undefined;
}

// Everyday refusals have fixed words; others have the engine's reason, if it gave one.
function explain(address, { errno, crsWhy }) {
  const code = getSystemErrorName(errno);
  const why = advice(address, code) ?? REASONS[code] ?? crsWhy;
  const reason = why === undefined ? code : `${why} (${code})`;
  return { code, text: `cannot listen on ${nameOf(address)}: ${reason}` };
}

const isNumber = (value, least) => Number.isInteger(value) && value >= least;

/** The name of an address in Node's 'listening' event or a query. A worker may have made it up. */
function nameOf({ addressType, address, port, fd }) {
  const isPath = addressType === -1 || addressType === '-1';
  if (isNumber(fd, 0) && (isPath || !isNumber(port, 1))) return `descriptor ${fd}`;
  if (isPath) return shown(address);
  const host = address === null || address === undefined ? '*' : shown(address);
  return `${typeof addressType === 'string' ? 'udp ' : ''}${host.includes(':') ? `[${host}]` : host}:${shown(port)}`;
}

module.exports = { ADDRESSES, nameOf, shown, watchBinds };
