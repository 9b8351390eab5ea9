'use strict';
// Handles that workers send to the primary, asked for or not: the primary keeps what its program listens for, and lives.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

// In a worker, before data.attack runs: `raw(message, handle)` writes on Node's channel what Node itself would not.
const TOOLS = `
  const net = require('node:net');
  const dgram = require('node:dgram');
  const { WriteWrap } = process.binding('stream_wrap');
  const [symbol] = Object.getOwnPropertySymbols(process).filter(({ description }) => description === 'kChannelHandle');
  const text = (bytes, handle) => process[symbol].writeUtf8String(new WriteWrap(), bytes, handle);
  const raw = (message, handle) => text(JSON.stringify({ cmd: 'NODE_HANDLE', msg: {}, ...message }) + '\\n', handle);
  const listening = (serve) => new Promise((resolve) => {
    const server = net.createServer((socket) => socket.on('error', () => {}));
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => resolve(server));
  });
  const connected = async () => {
    const server = await listening();
    return new Promise((resolve) => {
      server.once('connection', (socket) => resolve({ socket, client }));
      const client = net.connect(server.address().port, '127.0.0.1').on('error', () => {});
    });
  };
  const datagrams = () => new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.bind({ port: 0, address: '127.0.0.1', exclusive: true }, () => {
      const [state] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol');
      resolve({ socket, handle: socket[state].handle });
    });
  });
  process.on('uncaughtException', () => {});
  setTimeout(() => {}, 1e6);
`;

// One worker attacks; the program listens for messages or does not. Afterwards another one serves.
async function suffer({ cluster, data, report, happens, ask }) {
  process.on('warning', ({ message }) => report('warning', message));
  const heard = [];
  if (data.isHeard) cluster.on('message', (worker, message, handle) => handle && heard.push(handle));
  const { settings, before = 0 } = data;
  cluster.setupPrimary({ execArgv: ['--no-deprecation'], ...settings });
  const open = () => require('node:fs').readdirSync('/proc/self/fd').length - before;
  const bad = cluster.fork();
  await happens(bad, 'online');
  const atFirst = open();
  const gone = happens(bad, 'exit');
  await Promise.race([gone, happens(bad, 'listening')]);
  await new Promise((resolve) => setTimeout(resolve, data.wait ?? 300));
  report('open', open() - atFirst);
  report('is alive', !bad.isDead());
  bad.process.kill('SIGKILL');
  await gone;
  const good = cluster.fork({ GOOD: 1 });
  const [{ port }] = await happens(good, 'listening');
  report('answer', await ask(port));
  report('heard', heard.length);
  for (const handle of heard) (handle.destroy ?? handle.close).call(handle);
  good.disconnect();
  await happens(good, 'exit');
}

async function attack({ data }) {
  const server = require('node:net').createServer((socket) => socket.end('good'));
  // The listening tells that it is done.
  if (!process.env.GOOD) await new Function(`return (async () => { ${data.tools}; await (${data.attack})(); })()`)();
  server.listen(0, '127.0.0.1');
}

// What only this module promises; the attacks are text that sees the tools.
async function check(attackText, data = {}) {
  const run = await play({
    data: { tools: TOOLS.replaceAll('require(', 'process.mainModule.require('), attack: attackText, ...data }, primary: suffer, worker: attack,
  });
  assert.equal(run.one('answer'), 'good');
  return run;
}

const faults = {
  'a class that is none': 'async () => raw({ type: "nonsense" }, (await listening())._handle)',
  'a stream as datagrams': 'async () => raw({ type: "dgram.Socket", dgramType: "udp4" }, (await listening())._handle)',
  'a stream as a native datagram handle': 'async () => raw({ type: "dgram.Native" }, (await listening())._handle)',
  'datagrams as a server': 'async () => raw({ type: "net.Server" }, (await datagrams()).handle)',
  'datagrams as a socket': 'async () => raw({ type: "net.Socket" }, (await datagrams()).handle)',
  'datagrams of no type': 'async () => raw({ type: "dgram.Socket", dgramType: "nonsense" }, (await datagrams()).handle)',
  'a socket of "constructor"': 'async () => raw({ type: "net.Socket", key: "constructor" }, (await connected()).socket._handle)',
  'a socket of "__proto__"': 'async () => raw({ type: "net.Socket", key: "__proto__" }, (await connected()).socket._handle)',
  'a socket of an object': 'async () => raw({ type: "net.Socket", key: { a: 1 } }, (await connected()).socket._handle)',
  'no message': 'async () => raw({ type: "net.Native", msg: undefined }, (await listening())._handle)',
  'a message of the cluster': 'async () => raw({ type: "net.Native", msg: { cmd: "NODE_CLUSTER", act: "online" } }, (await listening())._handle)',
  'a handle within a handle': 'async () => raw({ type: "net.Socket", msg: { cmd: "NODE_HANDLE", type: "net.Server" } }, (await listening())._handle)',
  'handles without their message': `async () => {
    const { _handle } = await listening();
    for (let i = 0; i < 50; i++) text('{"plain":1}\\n', _handle);
  }`,
};

for (const [name, text] of Object.entries(faults)) {
  for (const isHeard of [false, true]) {
    test(`${name}, ${isHeard ? 'heard' : 'unheard'}: whoever sends it is ended`, ours, async () => {
      const run = await check(text, { isHeard });
      assert.equal(run.one('heard'), 0);
      assert.equal(run.one('is alive'), false);
      assert.match(run.all('warning')[0][0], /^worker 1: it sent .* and was ended$/);
    });
  }
}

const harmless = {
  'a socket whose client resets': `async () => {
    const { socket, client } = await connected();
    process.send('x', socket);
    setTimeout(() => client.resetAndDestroy(), 100);
  }`,
  'a server': 'async () => process.send("x", await listening())',
  'a listening socket as a connection': 'async () => raw({ type: "net.Socket" }, (await listening())._handle)',
  'a connection as a server': 'async () => raw({ type: "net.Server" }, (await connected()).client._handle)',
  'a handle that has not come': 'async () => raw({ type: "net.Socket" })',
};

for (const [name, text] of Object.entries(harmless)) {
  for (const isHeard of [false, true]) {
    test(`${name}, ${isHeard ? 'heard' : 'unheard'}: the primary lives`, ours, () => check(text, { isHeard, wait: 600 }));
  }
}

const FLOOD = `async () => {
  const { socket } = await datagrams();
  for (let i = 0; i < 600; i++) process.send({ i }, socket, () => {});
}`;

test('600 handles that nobody listens for are closed at once', ours, async () => {
  const run = await check(FLOOD, { wait: 1000 });
  assert.ok(run.one('open') < 10, `${run.one('open')} are open`);
  assert.equal(run.one('is alive'), true);
  assert.deepEqual(run.all('warning'), [['worker 1: it sent a handle, which was closed: nobody listens for it']]);
});

test('a listener that keeps handles: so many, and then whoever sends them is ended and they are closed', ours, async () => {
  const run = await check(FLOOD.replace('600', '1200'), { isHeard: true, wait: 3000 });
  assert.ok(run.one('open') < 10, `${run.one('open')} are open`);
  assert.equal(run.one('is alive'), false);
  assert.match(run.all('warning')[0][0], /^worker 1: it sent more than \d+ handles and was ended$/);
});

test('a handle behind the message at which the program hangs up', ours, async () => {
  const run = await play({
    data: TOOLS.replaceAll('require(', 'process.mainModule.require('),
    async primary({ cluster, report, happens }) {
      cluster.setupPrimary({ execArgv: ['--no-deprecation'] });
      const worker = cluster.fork();
      worker.on('message', () => worker.process.disconnect());
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ data }) {
      new Function(`${data}; text('"bye"\\n{"cmd":"NODE_HANDLE","type":"net.Native","msg":{}}\\n');
        process.once('disconnect', () => process.exit(0));`)();
    },
  });
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a worker that ends without acknowledging a handle is forgotten like any other', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'message');
      const both = Promise.all([happens(worker, 'disconnect'), happens(worker, 'exit')]);
      worker.process.kill('SIGKILL');
      await both;
      report('left', Object.keys(cluster.workers).length);
    },
    worker() {
      process.removeAllListeners('internalMessage');
      const query = { address: '127.0.0.1', port: 0, addressType: 'udp4', fd: -1, index: 0, flags: 0, data: null };
      process.send({ cmd: 'NODE_CLUSTER', act: 'queryServer', seq: 1, ...query });
      setTimeout(() => process.send('asked'), 200);
      setInterval(() => {}, 1000);
    },
  });
  assert.equal(run.one('left'), 0);
});
