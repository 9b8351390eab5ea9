'use strict';

// What a worker's Node asks its primary when a server listens.

/** The act of a message that asks a worker to leave whose script ends by itself. */
const OWN_END = 'own end';

/** Whether a message is Node's own and not the program's. */
function isInternal(message) {
  return typeof message?.cmd === 'string' && message.cmd.startsWith('NODE_');
}

/** Whether an internal message is such a query. */
function isQuery(message) {
  return message?.cmd === 'NODE_CLUSTER' && message.act === 'queryServer';
}

/** A socket of datagrams, which Node opens and shares by itself. */
function isDatagram({ addressType }) {
  return addressType === 'udp4' || addressType === 'udp6';
}

/** Node's name for what a query asks for, by which the worker closes it. */
function keyOf({ address, port, addressType, fd, index }) {
  return `${address}:${port}:${addressType}:${fd}:${index}`;
}

module.exports = { OWN_END, isDatagram, isInternal, isQuery, keyOf };
