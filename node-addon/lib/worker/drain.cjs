'use strict';

// Keep-alive connections of an HTTP server whose worker leaves. Node closes all that are between two requests, so a request that is
// on its way fails. Here each connection gets its next answer with `Connection: close`, and only silent ones are closed.

const channels = require('node:diagnostics_channel');

// For how long a connection may stay silent, and how often that is looked at, in milliseconds.
const SILENCE = 1000;
const LOOK = 100;
// Node tells of each answer here before the program gets it, whatever the program has done to the server's events.
const BEGUN = 'http.server.request.start';
// What is said of the connection itself; a client would stay.
const STAYING = /^(close|keep-alive)$/i;

// Node's own list of the server's connections: an object with all() and idle(), which return parsers.
function connectionsOf(server) {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) => description === 'http.server.connections');
  const list = symbol && server[symbol];
  return typeof list?.all === 'function' && typeof list.idle === 'function' ? list : undefined;
}

function isAnswering(socket) {
  return socket._httpMessage && !socket._httpMessage.finished;
}

// A client that has sent several requests at once is owed the answers to all of them.
function isLast({ req }) {
  const latest = req?.socket?.parser?.incoming;
  return !latest || latest === req;
}

// `Connection: upgrade` and the like stay true.
function closing(values) {
  const words = values.flatMap((value) => String(value).split(',')).map((word) => word.trim());
  return [...words.filter((word) => word !== '' && !STAYING.test(word)), 'close'].join(', ');
}

// The headers that were given to writeHead, in each of its forms, as pairs.
function pairsOf(headers) {
  if (!Array.isArray(headers)) return Object.entries(headers ?? {});
  if (Array.isArray(headers[0])) return headers;
  return headers.flatMap((name, i) => i % 2 === 0 ? [[name, headers[i + 1]]] : []);
}

const isNamed = (name) => ([given]) => String(given).toLowerCase() === name;

// Its headers will say `Connection: close`, even if the program says otherwise: what a proxy copies from another server was meant for
// the proxy.
function sayClose(response) {
  if (response.headersSent) return;
  const { _storeHeader: store } = response;
  if (typeof store !== 'function') return;
  response._storeHeader = function storeLast(line, headers) {
    if (this.statusCode < 200 || !isLast(this)) return Reflect.apply(store, this, [line, headers]);
    this.shouldKeepAlive = false;
    if (this.getHeaderNames().length > 0) {
      this.removeHeader('Keep-Alive');
      this.setHeader('Connection', closing([this.getHeader('Connection') ?? []].flat()));
      return Reflect.apply(store, this, [line, headers]);
    }
    const pairs = pairsOf(headers);
    const said = pairs.filter(isNamed('connection')).flatMap(([, value]) => value);
    const others = pairs.filter((pair) => !isNamed('connection')(pair) && !isNamed('keep-alive')(pair));
    return Reflect.apply(store, this, [line, [...others, ['Connection', closing(said)]]]);
  };
}

// Answers that wait for this one were begun before anybody was told of them.
function sayCloseFrom(socket) {
  const response = socket?._httpMessage;
  if (!response) return;
  sayClose(response);
  response.once('finish', () => sayCloseFrom(socket));
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
  const list = server && connectionsOf(server);
  if (!list) return;

  const answerLast = ({ server: whose, response }) => {
    if (whose === server) sayClose(response);
  };
  channels.subscribe(BEGUN, answerLast);
  for (const { socket } of list.all()) sayCloseFrom(socket);

  // Server.close() begins by calling this.
  Object.defineProperty(server, 'closeIdleConnections', { configurable: true, value() {} });
  process.nextTick(() => delete server.closeIdleConnections);

  const silent = new WeakMap();
  const timer = setInterval(closeSilent, LOOK, list, silent).unref();
  closeSilent(list, silent);
  server.once('close', () => {
    clearInterval(timer);
    channels.unsubscribe(BEGUN, answerLast);
  });
}

module.exports = { drain };
