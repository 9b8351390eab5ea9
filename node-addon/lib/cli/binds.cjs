'use strict';

// The primary binds for its workers, and tells them in its reply what went wrong. No event says so, hence this stage.

const { getSystemErrorName } = require('node:util');

const REASONS = {
  EADDRINUSE: 'it is taken',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'this machine has no such address',
};

/** Addresses that one worker may have, and the primary may hear of; what is more is passed over. */
const ADDRESSES = 256;
const LONGEST = 500;

/** What a worker sent, fit for a line of ours: no control characters, no lines of its own, not long. */
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
      if (message?.act === 'queryServer' && questions.size < ADDRESSES) questions.set(message.seq, message);
    },
    says(message) {
      const question = questions.get(message.ack);
      if (question === undefined) return;
      questions.delete(message.ack);
      if (message.errno < 0) failed(explain(question, message));
    },
  };
}

// The engine's own reason, if there is one, for what is not the everyday refusal of a port.
function explain(address, { errno, crsWhy }) {
  const code = getSystemErrorName(errno);
  const why = REASONS[code] ?? crsWhy;
  const reason = why === undefined ? code : `${why} (${code})`;
  return { code, text: `cannot listen on ${nameOf(address)}: ${reason}` };
}

const isNumber = (value, least) => Number.isInteger(value) && value >= least;

/** An address as Node's 'listening' event and its queries describe it. A worker may have made it up. */
function nameOf({ addressType, address, port, fd }) {
  const isPath = addressType === -1 || addressType === '-1';
  if (isNumber(fd, 0) && (isPath || !isNumber(port, 1))) return `descriptor ${fd}`;
  if (isPath) return shown(address);
  const host = address === null || address === undefined ? '*' : shown(address);
  return `${typeof addressType === 'string' ? 'udp ' : ''}${host.includes(':') ? `[${host}]` : host}:${shown(port)}`;
}

module.exports = { ADDRESSES, nameOf, shown, watchBinds };
