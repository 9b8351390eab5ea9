'use strict';
// What a Node worker of a C or Rust primary may listen on, and the errors it gets, which are Node's own.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const { WORKERS, connect, happens, inTurns, until, whoAnswers, withPrimary } = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';

// What stock Node says of the same error.
async function ownError(options) {
  const [error] = await happens(net.createServer().listen(options), 'error');
  const { name, code, errno, syscall, address, port, message } = error;
  return { name, code, errno, syscall, address, port, message };
}

// The error that a worker's server emits.
async function errorIn(primary, address) {
  const { id } = await primary.start([...WORKERS.node, address]);
  return JSON.parse(await primary.message(id));
}

for (const language of ['c', 'rust']) {
  test(`a taken port is an 'error' with Node's own fields (primary in ${language})`, async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await happens(taken, 'listening');
    const { port } = taken.address();
    await withPrimary({ language }, async (primary) => {
      const expected = await ownError({ port, host: '127.0.0.1' });
      assert.equal(expected.code, 'EADDRINUSE');
      const told = await errorIn(primary, `127.0.0.1:${port}`);
      // In a worker of Node's own cluster it is the primary that binds, too.
      assert.deepEqual(told, { ...expected, syscall: 'bind', message: `bind EADDRINUSE 127.0.0.1:${port}` });
    });
    taken.close();
  });
}

test('a file that is in the way, a folder that is missing, an address that is not ours', async () => {
  await withPrimary({}, async (primary) => {
    const file = `${primary.directory}/file`;
    fs.writeFileSync(file, '');
    assert.equal((await errorIn(primary, `unix:${file}`)).code, 'EADDRINUSE');
    assert.equal((await errorIn(primary, `unix:${primary.directory}/none/socket`)).code, 'EACCES');
    const { code, syscall, address } = await errorIn(primary, '192.0.2.1:0');
    assert.deepEqual({ code, syscall, address }, { code: 'EADDRNOTAVAIL', syscall: 'bind', address: '192.0.2.1' });
  });
});

test('server.address() is the shared one, and a server that listens again gets turns again', async () => {
  await withPrimary({}, async (primary) => {
    const c = await primary.spawn('c', ADDRESS);
    const { port } = c;
    const node = await primary.startNode(`
      const { worker } = require('node:cluster');
      const net = require('node:net');
      const server = net.createServer((socket) => {
        socket.end(\`node \${worker.id} \${worker.slot} \${process.pid}\\n\`);
        socket.resume();
      });
      server.on('listening', () => worker.send(JSON.stringify(server.address())));
      server.on('close', () => worker.send('close'));
      worker.on('message', (text) => (String(text) === 'close' ? server.close() : server.listen(0, '127.0.0.1')));
      server.listen(0, '127.0.0.1');`);
    const address = { address: '127.0.0.1', family: 'IPv4', port };
    assert.deepEqual(JSON.parse(await primary.message(node.id, 0)), address);
    await inTurns(port, [c.id, node.id], 20);
    await primary.send(node.id, 'close');
    assert.equal(String(await primary.message(node.id, 1)), 'close');
    for (let i = 0; i < 5; i += 1) assert.equal((await whoAnswers(port)).id, c.id);
    await primary.send(node.id, 'listen');
    assert.deepEqual(JSON.parse(await primary.message(node.id, 2)), address);
    await inTurns(port, [c.id, node.id], 20);
  });
});

test('exclusive: a socket of the worker\'s own', async () => {
  await withPrimary({}, async (primary) => {
    const script = `
      const { worker } = require('node:cluster');
      const server = require('node:net').createServer((socket) => {
        socket.end(\`node \${worker.id} \${worker.slot} \${process.pid}\\n\`);
        socket.resume();
      });
      server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => worker.send(String(server.address().port)));
      // As in Node's own cluster, nobody else closes it.
      worker.on('disconnect', () => server.close());`;
    const workers = [await primary.startNode(script), await primary.startNode(script)];
    const ports = [];
    for (const { id } of workers) ports.push(Number(await primary.message(id)));
    assert.notEqual(ports[0], ports[1]);
    for (const [i, { id }] of workers.entries()) {
      for (let n = 0; n < 3; n += 1) assert.equal((await whoAnswers(ports[i])).id, id);
    }
    assert.equal(primary.seen('listening').length, 0);
  });
});

test('a socket file is made for all, taken away at the end, and may be opened to everybody', async () => {
  let file;
  await withPrimary({}, async (primary) => {
    file = `${primary.directory}/socket`;
    const node = await primary.startNode(`
      require('node:net').createServer((socket) => {
        socket.end('node 1 0 ' + process.pid + '\\n');
        socket.resume();
      }).listen({ path: 'socket', readableAll: true, writableAll: true });`);
    await primary.next('listening', node.id);
    const c = await primary.spawn('c', `unix:${file}`);
    assert.equal(fs.statSync(file).mode & 0o666, 0o666);
    await inTurns(file, [node.id, c.id], 4);
    await primary.tell('stop', 15_000);
    await until(() => primary.seen('exit').length === 2, 'the end of the workers');
    assert.equal(fs.existsSync(file), false);
  });
});

test('datagram sockets are refused with a clear error', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.startNode(`
      const { worker } = require('node:cluster');
      require('node:net').createServer().listen(0, '127.0.0.1');
      const socket = require('node:dgram').createSocket('udp4');
      socket.on('error', ({ code, syscall }) => worker.send(JSON.stringify({ code, syscall })));
      socket.bind(0, '127.0.0.1');`);
    assert.deepEqual(JSON.parse(await primary.message(node.id)), { code: 'ENOTSUP', syscall: 'bind' });
  });
});

test('what a connection is: addresses of both ends, both halves, as in any Node server', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.startNode(`
      const { worker } = require('node:cluster');
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        const { remoteAddress, remotePort, localPort, allowHalfOpen } = socket;
        let text = '';
        socket.on('data', (data) => { text += data; });
        const seen = { remoteAddress, remotePort, localPort, allowHalfOpen };
        socket.on('end', () => socket.end(JSON.stringify({ ...seen, text })));
      }).listen(0, '127.0.0.1');`);
    const { port } = await primary.next('listening', node.id);
    const socket = await connect(port);
    const { localPort } = socket;
    const big = 'x'.repeat(300_000);
    let text = '';
    socket.on('data', (data) => { text += data; });
    socket.end(big);
    await happens(socket, 'close');
    assert.deepEqual(JSON.parse(text), {
      remoteAddress: '127.0.0.1', remotePort: localPort, localPort: port, allowHalfOpen: true, text: big,
    });
  });
});
