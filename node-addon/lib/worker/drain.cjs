'use strict';

// Keep-alive connections of an HTTP server whose worker leaves. Node closes all that are between two requests, so a request that is
// on its way fails. Here each connection gets its next answer with `Connection: close`, and only silent ones are closed.

const channels = require('node:diagnostics_channel');

const { endSessions } = require('./sessions.cjs');

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

// By connection: the last request that is answered there.
const finals = new WeakMap();
const told = new WeakSet();

// A client that has sent several requests at once is owed the answers to all that have come by now, but to no later ones.
function isLast({ req }) {
  const { socket } = req;
  if (!finals.has(socket)) finals.set(socket, socket?.parser?.incoming ?? req);
  return finals.get(socket) === req;
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
// the proxy. `isLate`: its request has come after the last one, whose headers had been made before the worker was asked to leave.
function sayClose(response, isLate) {
  const { _storeHeader: store } = response;
  if (response.headersSent || told.has(response) || typeof store !== 'function') return;
  told.add(response);
  response._storeHeader = function storeLast(line, headers) {
    if (this.statusCode < 200 || !(isLate || isLast(this))) return Reflect.apply(store, this, [line, headers]);
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

// Answers that wait for this one were begun before anybody was told of them. Node gives each the connection in this way when the one
// before has ended.
function sayCloseFrom(socket) {
  let response = socket?._httpMessage;
  if (!response) return;
  sayClose(response, false);
  Object.defineProperty(socket, '_httpMessage', {
    configurable: true,
    enumerable: true,
    get: () => response,
    set(next) {
      response = next;
      if (next) sayClose(next, false);
    },
  });
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
  if (!server) return;
  endSessions(server);
  // A server that does not listen gets its connections from one that does.
  const answerLast = ({ server: whose, response }) => {
    if (whose === server || !whose.listening) sayClose(response, finals.has(response.req.socket));
  };
  channels.subscribe(BEGUN, answerLast);
  const list = connectionsOf(server);
  const timer = list && closeWhenSilent(server, list);
  server.once('close', () => {
    clearInterval(timer);
    channels.unsubscribe(BEGUN, answerLast);
  });
}

function closeWhenSilent(server, list) {
  for (const { socket } of list.all()) sayCloseFrom(socket);

  // Server.close() begins by calling this.
  Object.defineProperty(server, 'closeIdleConnections', { configurable: true, value() {} });
  process.nextTick(() => delete server.closeIdleConnections);

  const silent = new WeakMap();
  closeSilent(list, silent);
  return setInterval(closeSilent, LOOK, list, silent).unref();
}

module.exports = { drain };
