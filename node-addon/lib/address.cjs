'use strict';

// Translates a worker's query into the engine's words. Nothing that a worker sends is trusted.

const net = require('node:net');
const { errno: ERRNO } = require('node:os').constants;
const path = require('node:path');

const { isDatagram } = require('./query.cjs');

const FLAGS = { ipv6Only: 4, readableAll: 16, writableAll: 32, padAbstract: 1 << 16 };
// Up to its version 1.46 libuv bound and connected to abstract names that were filled up with zeros.
const [UV_MAJOR, UV_MINOR] = process.versions.uv.split('.').map(Number);
const PADDED = UV_MAJOR === 1 && UV_MINOR < 47 ? FLAGS.padAbstract : 0;
const UV_TCP_IPV6ONLY = 1;

function isCount(value) {
  return Number.isInteger(value) && value >= 0;
}

function hostText(address) {
  return net.isIPv6(address) ? `[${address}]` : address;
}

// The directory may have been removed.
function here() {
  try {
    return process.cwd();
  } catch {
    return path.sep;
  }
}

// An abstract name begins with a NUL. Node's worker has put its directory before it, as before any path.
function pathText(address) {
  const absolute = path.resolve(here(), address);
  const abstract = [address, path.relative(here(), absolute)].find((text) => text.startsWith('\0'));
  return abstract === undefined ? absolute : `@${abstract.slice(1)}`;
}

/** { address, index, backlog, flags, kind }; undefined for what no socket can be made of. */
function addressOf(query) {
  const { address, fd, index, backlog, flags, readableAll, writableAll } = query;
  const datagram = isDatagram(query);
  // Of a datagram socket without a port Node asks for port 0.
  const port = datagram ? query.port ?? 0 : query.port;
  const kindOfSocket = datagram ? 'udp:' : '';
  // Node counts from 0; to the engine 0 is "the next".
  const common = { index: isCount(index) ? index + 1 : 1, backlog: isCount(backlog) ? Math.min(backlog, 0x7fffffff) : 0 };
  if (isCount(fd)) return { ...common, address: `fd:${fd}`, flags: 0, kind: 'fd' };
  if (isCount(port)) {
    if (port > 65535) return undefined;
    const host = address ?? '';
    if (host !== '' && !net.isIP(host)) return undefined;
    const only = (isCount(flags) ? flags : 0) & UV_TCP_IPV6ONLY ? FLAGS.ipv6Only : 0;
    return { ...common, address: `${kindOfSocket}${hostText(host)}:${port}`, flags: only, kind: 'tcp' };
  }
  if (typeof address !== 'string' || address === '') return undefined;
  const everybody = (readableAll ? FLAGS.readableAll : 0) | (writableAll ? FLAGS.writableAll : 0);
  const text = pathText(address);
  const padded = text.startsWith('@') ? PADDED : 0;
  return { ...common, address: `${kindOfSocket}unix:${text}`, flags: everybody | padded, kind: 'path' };
}

// Errors for which Node uses another code than the engine, by kind of address.
const NODES_OWN = {
  fd: { [-ERRNO.EBADF]: -ERRNO.EINVAL, [-ERRNO.ENOTSOCK]: -ERRNO.EINVAL, [-ERRNO.EOPNOTSUPP]: -ERRNO.EINVAL },
  path: { [-ERRNO.ENOENT]: -ERRNO.EACCES, [-ERRNO.EAGAIN]: -ERRNO.EADDRINUSE },
};

/** The errno with which Node would have refused an address, from the engine's. */
function refusalOf(wanted, errno) {
  return NODES_OWN[wanted?.kind]?.[errno] ?? errno;
}

module.exports = { addressOf, refusalOf };
