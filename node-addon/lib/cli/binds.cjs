'use strict';

// The primary binds for its workers, and tells them in its reply what went wrong. No event says so, hence this ear.

const { getSystemErrorName } = require('node:util');

const REASONS = {
  EADDRINUSE: 'it is taken',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'this machine has no such address',
};

/** Calls `failed({ code, text })` whenever an address that this worker asked for could not be had. */
function watchBinds(worker, failed) {
  const child = worker.process;
  const questions = new Map();
  child.prependListener('internalMessage', (message) => {
    if (message?.act === 'queryServer') questions.set(message.seq, message);
  });
  const { send } = child;
  child.send = function(message, ...rest) {
    const question = questions.get(message?.ack);
    if (question !== undefined && message.cmd === 'NODE_CLUSTER') {
      questions.delete(message.ack);
      if (message.errno < 0) failed(explain(question, message));
    }
    return send.call(this, message, ...rest);
  };
}

// The engine's own reason, if there is one, for what is not the everyday refusal of a port.
function explain(address, { errno, crsWhy }) {
  const code = getSystemErrorName(errno);
  const why = REASONS[code] ?? crsWhy;
  const reason = why === undefined ? code : `${why} (${code})`;
  return { code, text: `cannot listen on ${nameOf(address)}: ${reason}` };
}

/** An address as Node's 'listening' event and its queries describe it. */
function nameOf({ addressType, address, port, fd }) {
  if (addressType === -1 || addressType === '-1') return fd >= 0 ? `descriptor ${fd}` : `${address}`;
  if (fd >= 0 && !(port > 0)) return `descriptor ${fd}`;
  const host = address === null || address === undefined ? '*' : address.includes(':') ? `[${address}]` : address;
  return `${typeof addressType === 'string' ? 'udp ' : ''}${host}:${port}`;
}

module.exports = { watchBinds, nameOf };
