'use strict';

// Keep-alive connections of an HTTP server whose worker leaves. Node closes all that are between two requests, so a request that is
// on its way fails. Here they go to other workers, if these take them. Elsewhere each connection gets its next answer with
// `Connection: close`, and only silent ones are closed.

const channels = require('node:diagnostics_channel');

const { load } = require('../addon.cjs');
const { HandBack } = require('./hand-back.cjs');
const { connectionsOf, idleOf } = require('./http-connections.cjs');
const { endSessions } = require('./sessions.cjs');

// For how long a connection may stay silent, and how often that is looked at, in milliseconds.
const SILENCE = 1000;
const LOOK = 100;
// The same where others are to take it: until there is room, and how soon is tried again.
const NO_ROOM = 10_000;
const AGAIN = 20;
/** How long the primary may take to say that it takes connections back, once it was told that this worker leaves. */
const WORD = 200;
// Node tells of each answer here before the program gets it, and when it has ended, whatever the program has done to the server's
// events.
const BEGUN = 'http.server.request.start';
const ENDED = 'http.server.response.finish';
// What is said of the connection itself; a client would stay.
const STAYING = /^(close|keep-alive)$/i;

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

function closeSilent(list, silent, most = SILENCE) {
  const now = Date.now();
  for (const socket of idleOf(list)) {
    const seen = silent.get(socket);
    if (seen?.bytesRead !== socket.bytesRead) silent.set(socket, { bytesRead: socket.bytesRead, since: now });
    else if (now - seen.since >= most) socket.destroy();
  }
}

function answerLastWithClose(server) {
  // A server that does not listen gets its connections from one that does.
  const answerLast = ({ server: whose, response }) => {
    if (whose === server || !whose.listening) sayClose(response, finals.has(response.req.socket));
  };
  channels.subscribe(BEGUN, answerLast);
  server.once('close', () => channels.unsubscribe(BEGUN, answerLast));
}

function closeWhenSilent(server, list) {
  for (const { socket } of list.all()) sayCloseFrom(socket);
  const silent = new WeakMap();
  closeSilent(list, silent);
  const timer = setInterval(closeSilent, LOOK, list, silent).unref();
  server.once('close', () => clearInterval(timer));
}

/** Server.close() begins by calling this. */
function insteadOfClosingIdle(server, value) {
  Object.defineProperty(server, 'closeIdleConnections', { configurable: true, writable: true, value });
}

function closeAll(server, list) {
  answerLastWithClose(server);
  if (!list) return;
  insteadOfClosingIdle(server, () => {});
  process.nextTick(() => delete server.closeIdleConnections);
  closeWhenSilent(server, list);
}

// Hands back what is idle, now and whenever an answer has ended. `failed` is called once that is not possible any more.
function handBackAll(server, list, handBack, isToCome, failed) {
  const patience = performance.now() + (isToCome ? WORD : 0);
  const silent = new WeakMap();
  const look = () => {
    handBack.handIdle();
    if (handBack.isPossible && (handBack.isOpen || performance.now() < patience)) {
      closeSilent(list, silent, NO_ROOM);
      return;
    }
    end();
    failed();
  };
  const ended = ({ server: whose }) => {
    if (whose === server) setImmediate(look);
  };
  const timer = setInterval(look, AGAIN).unref();
  let isOver = false;
  function end() {
    isOver = true;
    clearInterval(timer);
    channels.unsubscribe(ENDED, ended);
    delete server.closeIdleConnections;
  }
  channels.subscribe(ENDED, ended);
  insteadOfClosingIdle(server, () => isOver || handBack.handIdle());
  server.once('close', end);
  look();
}

const leaving = new WeakSet();

/**
 * This worker leaves. Call it right before Node, or the program, closes the server; in the same tick. `returns`: where connections of this
 * server are handed back. `isToCome`: the primary has not been told yet. `isPrograms`: the program itself ends its connections.
 */
function drain(server, returns, { isToCome = false, isPrograms = false } = {}) {
  if (!server || leaving.has(server)) return;
  if (!isPrograms) endSessions(server);
  const handBack = HandBack.of(server, returns, load());
  if (!handBack || !(isToCome || handBack.isOpen)) {
    if (!isPrograms) closeAll(server, connectionsOf(server));
    return;
  }
  leaving.add(server);
  const list = connectionsOf(server);
  handBackAll(server, list, handBack, isToCome, () => isPrograms || closeAll(server, list));
}

module.exports = { drain };
