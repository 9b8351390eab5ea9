'use strict';

// Keep-alive connections of an HTTP server whose worker leaves. Node closes all that are between two requests, so a request that is
// on its way fails. Here each connection gets its next answer with `Connection: close`, and only silent ones are closed.

const { endSessions } = require('./sessions.cjs');

// For how long a connection may stay silent, and how often that is looked at, in milliseconds.
const SILENCE = 1000;
const LOOK = 100;

// Node's own list of the server's connections: an object with all() and idle(), which return parsers.
function connectionsOf(server) {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) => description === 'http.server.connections');
  const list = symbol && server[symbol];
  return typeof list?.all === 'function' && typeof list.idle === 'function' ? list : undefined;
}

function isAnswering(socket) {
  return socket._httpMessage && !socket._httpMessage.finished;
}

function sayClose(response) {
  if (!response.headersSent) response.shouldKeepAlive = false;
}

function closeSilent(list, silent) {
  const now = Date.now();
  for (const { socket } of list.idle()) {
    if (!socket || isAnswering(socket)) continue;
    const seen = silent.get(socket);
    if (seen?.bytesRead !== socket.bytesRead) silent.set(socket, { bytesRead: socket.bytesRead, since: now });
    else if (now - seen.since >= SILENCE) socket.destroy();
  }
}

/** Call right before Node closes the server because the worker leaves; in the same tick. */
function drain(server) {
  if (server) endSessions(server);
  const list = typeof server?.closeIdleConnections === 'function' ? connectionsOf(server) : undefined;
  if (!list) return;

  const answerLast = (request, response) => sayClose(response);
  // Listening for checkContinue when the program does not would change what Node does with it.
  const events = ['request', 'checkContinue', 'checkExpectation'].filter((name) => server.listenerCount(name) > 0);
  for (const name of events) server.prependListener(name, answerLast);
  for (const { socket } of list.all()) {
    if (socket?._httpMessage) sayClose(socket._httpMessage);
  }

  // Server.close() begins by calling this.
  Object.defineProperty(server, 'closeIdleConnections', { configurable: true, value() {} });
  process.nextTick(() => delete server.closeIdleConnections);

  const silent = new WeakMap();
  const timer = setInterval(closeSilent, LOOK, list, silent).unref();
  closeSilent(list, silent);
  server.once('close', () => {
    clearInterval(timer);
    for (const name of events) server.removeListener(name, answerLast);
  });
}

module.exports = { drain };
