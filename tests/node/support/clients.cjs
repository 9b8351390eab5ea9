'use strict';
// Waiting and clients: for the tests themselves and, through `context`, for the code of their scenarios.

const http = require('node:http');
const net = require('node:net');

const DEADLINE = 30_000;

function deadline(promise, what, milliseconds = DEADLINE) {
  let timer;
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
    timer.unref(); // Waiting for what nobody needs any more keeps no process alive.
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Looks again and again until the condition holds, and gives what it gave.
async function until(condition, what = 'the condition', milliseconds = DEADLINE) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`${what}: not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// The arguments of the emitter's next event; unlike events.once an 'error' is an event like the others.
function happens(emitter, event, milliseconds = DEADLINE) {
  return deadline(new Promise((resolve) => {
    emitter.once(event, (...values) => resolve(values));
  }), `event '${event}'`, milliseconds);
}

const place = (where) => (typeof where === 'number' ? { port: where, host: '127.0.0.1' } :
  typeof where === 'string' ? { path: where } : where);

// `where` is a port of 127.0.0.1, the path of a unix socket, or the options of net.connect.
function connect(where) {
  return deadline(new Promise((resolve, reject) => {
    const socket = net.connect(place(where), () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  }), `a connection to ${JSON.stringify(where)}`);
}

// Everything that comes until the other side ends.
function receive(socket) {
  return deadline(new Promise((resolve, reject) => {
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (data) => { text += data; });
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
  }), 'the end of a connection');
}

async function ask(where, data = '') {
  const socket = await connect(where);
  const text = receive(socket);
  socket.end(data);
  return text;
}

// Asks until `count` different answers have come: whose turn it is, a busy machine may decide otherwise now and then.
async function everybody(count, ask) {
  const seen = new Set();
  await until(async () => seen.add(await ask()).size >= count, `${count} different answers`);
  return [...seen].sort();
}

// The code of the error with which connecting fails, or null where it succeeds.
function refusal(where) {
  return connect(where).then((socket) => {
    socket.destroy();
    return null;
  }, (error) => error.code);
}

// One request on a connection of its own, unless the options name an agent.
function request(where, options = {}) {
  const { port, host, path } = place(where);
  const { body, ...rest } = options;
  return deadline(new Promise((resolve, reject) => {
    const target = path === undefined ? { port, host } : { socketPath: path };
    const sent = http.request({ ...target, agent: false, path: '/', ...rest }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (data) => { text += data; });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: text }));
    });
    sent.on('error', reject);
    sent.end(body);
  }), `an answer from ${JSON.stringify(where)}`);
}

module.exports = {
  DEADLINE, ask, connect, deadline, everybody, happens, receive, refusal, request, until,
};
