'use strict';

// Many connections, and a heap snapshot of the primary and of each worker before and after them. Meanwhile further workers come
// and go. Usage: soak.cjs MECHANISM CONNECTIONS [--result]
//
// Prints, as JSON, for each process the growth in bytes, in descriptors, and the constructor that grew the most. With --result
// they are figures for the report.

const { fork } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { difference, snapshot } = require('./heap.cjs');

const WORKERS = 2;
const AT_ONCE = 16;
// So many connections, and a worker comes and goes.
const PART = 5000;
// Of one constructor: what a process may have more at the end without its being a leak, and bytes of the heap.
const SOME = 100;
const BYTES = 1 << 20;

const [, , what, number, option] = process.argv;
const descriptors = () => fs.readdirSync('/proc/self/fd').length;

// ---- the client, a process of its own: `count` connections, each answered

function knock(port, count) {
  let begun = 0;
  const one = () => {
    if (begun === count) return;
    begun += 1;
    const socket = net.connect(port, '127.0.0.1', () => socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
    let text = '';
    socket.setEncoding('latin1').on('data', (data) => { text += data; });
    socket.on('close', () => {
      if (!text.startsWith('HTTP/1.1 200 ')) throw new Error(`no answer, but '${text}'`);
      one();
    });
  };
  for (let i = 0; i < AT_ONCE; i++) one();
}

// ---- the server

function serve() {
  const server = require('node:http').createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1');
  process.on('message', ({ file }) => {
    const look = setInterval(() => server.getConnections(async (error, count) => {
      if (count > 0) return;
      clearInterval(look);
      const open = descriptors();
      await snapshot(file);
      process.send({ file, open });
    }), 20);
  });
}

const happens = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

async function load(port, count) {
  const client = fork(__filename, ['client', `${count}`], { env: { ...process.env, PORT: `${port}` } });
  const code = await happens(client, 'exit');
  if (code !== 0) throw new Error(`the client ended with ${code}`);
}

async function listening(worker) {
  const { port } = await happens(worker, 'listening');
  return port;
}

// A snapshot of all: name, file and descriptors of each.
async function look(folder, name, workers) {
  const looks = [];
  for (const worker of workers) {
    const file = path.join(folder, `${name}-${worker.id}.heapsnapshot`);
    const answer = happens(worker, 'message');
    worker.send({ file });
    looks.push({ who: `worker ${worker.id}`, ...await answer });
  }
  const file = path.join(folder, `${name}-primary.heapsnapshot`);
  const open = descriptors();
  await snapshot(file);
  return [...looks, { who: 'primary', file, open }];
}

async function soak(cluster, folder) {
  const count = Number(number);
  cluster.setupPrimary({ mechanism: what });
  const workers = Array.from({ length: WORKERS }, () => cluster.fork());
  const [port] = await Promise.all(workers.map(listening));
  async function part(connections) {
    await load(port, connections);
    const more = cluster.fork();
    await listening(more);
    const gone = happens(more, 'exit');
    more.disconnect();
    await gone;
  }
  // What is compiled, cached and made once.
  for (let i = 0; i < 3; i++) await part(Math.min(2000, count / 3));
  const before = await look(folder, 'before', workers);
  const parts = Math.max(3, count / PART);
  for (let i = 0; i < parts; i++) await part(count / parts);
  const after = await look(folder, 'after', workers);
  cluster.disconnect();
  return before.map(({ who, file, open }, i) => ({
    who, descriptors: after[i].open - open, ...difference(file, after[i].file),
  }));
}

function show(grown) {
  if (option !== '--result') {
    console.log(JSON.stringify(grown.map(({ who, descriptors: more, bytes, grown: all }) => ({
      who, descriptors: more, bytes, most: all.slice(0, 3),
    }))));
    return;
  }
  const { grouped, result } = require('./result.cjs');
  const row = (text) => `${grouped(Number(number))} connections in Node: ${text}`;
  const name = `cluster-rs ${what}`;
  const [bytes, more, [key, most]] = [
    Math.max(...grown.map((one) => one.bytes)), Math.max(...grown.map((one) => one.descriptors)),
    grown.map((one) => one.most).sort((one, other) => other[1] - one[1])[0],
  ];
  const kept = [
    result('soak-node', row('heap of any process'), name, `${bytes < 0 ? '' : '+'}${Math.round(bytes / 1024)} KB`, '<= +1 MB', bytes <= BYTES),
    result('soak-node', row('objects of one constructor, the most'), name, `+${most} (${key})`, `<= +${SOME}`, most <= SOME),
    result('soak-node', row('descriptors'), name, `${more < 0 ? '' : '+'}${more}`, '+0', more <= 0),
  ];
  process.exitCode = kept.every(Boolean) ? 0 : 1;
}

async function main() {
  const cluster = require('../../../../node-addon');
  if (cluster.isWorker) return serve();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-soak-'));
  try {
    show(await soak(cluster, folder));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

if (what === 'client') {
  process.disconnect();
  knock(Number(process.env.PORT), Math.round(Number(number)));
} else {
  main();
}
