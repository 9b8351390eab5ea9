'use strict';

// A worker's query in the engine's words. What a worker sends is not believed.

const net = require('node:net');
const path = require('node:path');

const FLAGS = { ipv6Only: 4, readableAll: 16, writableAll: 32 };
const UV_TCP_IPV6ONLY = 1;

function isCount(value) {
  return Number.isInteger(value) && value >= 0;
}

function hostText(address) {
  return net.isIPv6(address) ? `[${address}]` : address;
}

// The shorter one, since a socket's path may have no more than 107 bytes. The engine's key is the absolute one.
function pathText(address) {
  if (address.startsWith('\0')) return `@${address.slice(1)}`;
  return path.resolve(address);
}

/** { address, index, backlog, flags, path }; undefined for what no listening socket can be made of. */
function addressOf({ address, port, fd, index, backlog, flags, readableAll, writableAll }) {
  // Node counts from 0; to the engine 0 is "the next".
  const common = { index: isCount(index) ? index + 1 : 1, backlog: isCount(backlog) ? Math.min(backlog, 0x7fffffff) : 0 };
  if (isCount(fd)) return { ...common, address: `fd:${fd}`, flags: 0 };
  if (isCount(port)) {
    if (port > 65535) return undefined;
    const host = address === null || address === undefined ? '' : address;
    if (host !== '' && !net.isIP(host)) return undefined;
    const only = (isCount(flags) ? flags : 0) & UV_TCP_IPV6ONLY ? FLAGS.ipv6Only : 0;
    return { ...common, address: `${hostText(host)}:${port}`, flags: only };
  }
  if (typeof address !== 'string' || address === '') return undefined;
  const everybody = (readableAll ? FLAGS.readableAll : 0) | (writableAll ? FLAGS.writableAll : 0);
  return { ...common, address: `unix:${pathText(address)}`, flags: everybody, path: true };
}

module.exports = { addressOf };
