'use strict';

// Clients that never wait for ever: what is not answered in time is an error that says so.

const net = require('node:net');
const http = require('node:http');
const { DEADLINE } = require('../support/index.cjs');

function describe(where) {
  return where.path || `${where.host || '127.0.0.1'}:${where.port}`;
}

// Connects, sends `payload` and its end, and resolves to all that comes back until the server's end.
function exchange(where, payload = '', { milliseconds = DEADLINE, halfClose = true } = {}) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const socket = net.connect({ host: '127.0.0.1', ...where });
    const timer = setTimeout(() => socket.destroy(new Error(`hung: ${describe(where)}`)), milliseconds);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    if (halfClose) socket.end(payload);
    else if (payload.length > 0) socket.write(payload);
  });
}

// A connection that is held: resolves with the socket once the first bytes came, which are kept in `greeting`.
function hold(where, { milliseconds = DEADLINE } = {}) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: '127.0.0.1', ...where });
    const timer = setTimeout(() => socket.destroy(new Error(`hung: ${describe(where)}`)), milliseconds);
    socket.on('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error(`closed without a greeting: ${describe(where)}`));
    });
    socket.once('data', (data) => {
      clearTimeout(timer);
      socket.greeting = String(data);
      resolve(socket);
    });
  });
}

// Closes held connections and waits until they are closed.
async function release(sockets) {
  await Promise.all(sockets.map((socket) => new Promise((resolve) => {
    socket.removeAllListeners('error');
    socket.on('error', () => {});
    if (socket.closed) return resolve();
    socket.once('close', resolve);
    socket.destroy();
  })));
}

// One HTTP request; resolves to { status, headers, body, reused }.
function request(options, body, { milliseconds = DEADLINE, module = http } = {}) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const req = module.request({ host: '127.0.0.1', ...options });
    const timer = setTimeout(() => req.destroy(new Error(`hung: ${describe(options)}`)), milliseconds);
    req.on('error', (error) => {
      clearTimeout(timer);
      error.reusedSocket = req.reusedSocket;
      reject(error);
    });
    req.on('response', (response) => {
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        clearTimeout(timer);
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: Buffer.concat(chunks),
          reused: req.reusedSocket,
        });
      });
    });
    req.end(body);
  });
}

// Asks `total` times, at most `width` at once, and counts the answers.
async function tally(total, width, once) {
  const counts = new Map();
  let started = 0;
  await Promise.all(Array.from({ length: Math.min(width, total) }, async () => {
    while (started < total) {
      started++;
      const answer = await once();
      counts.set(answer, (counts.get(answer) || 0) + 1);
    }
  }));
  return counts;
}

module.exports = { exchange, hold, release, request, tally };
