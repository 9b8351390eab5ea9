'use strict';

// What Node knows of the connections of an HTTP/1.1 server.

/** Node's own list of them: an object with all() and idle(), which return parsers. Undefined for any other server. */
function connectionsOf(server) {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) => description === 'http.server.connections');
  const list = symbol && server[symbol];
  return typeof list?.all === 'function' && typeof list.idle === 'function' ? list : undefined;
}

// A request has come on this connection whose answer has not ended.
function isAnswering(socket) {
  return socket._httpMessage && !socket._httpMessage.finished;
}

/**
 * The sockets of those that have no request in hand, not even a part of one, and on which no answer is under way. Node does not count one
 * that has not sent anything yet.
 */
function idleOf(list) {
  const fresh = list.all().filter(({ socket }) => socket?.bytesRead === 0);
  const sockets = new Set([...list.idle(), ...fresh].map(({ socket }) => socket));
  return [...sockets].filter((socket) => socket && !socket.destroyed && !isAnswering(socket));
}

module.exports = { connectionsOf, idleOf };
