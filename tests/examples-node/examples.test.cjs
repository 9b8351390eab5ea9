'use strict';
// What each example promises in its first comment, with the processes and clients that it speaks of. The folder is a
// copy of examples/node into which the package was installed as those comments say: run.sh.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const support = require('../node/support/index.cjs');

const { connect, isAlive, listeningPorts, mechanism, play, receive, refusal, request, until } = support;
const folder = process.env.EXAMPLES;
const program = (name) => path.join(folder, name);

// The output's lines that match, in order.
const lines = (run, pattern) => run.stdout.split('\n').filter((line) => pattern.test(line));
const someLines = (run, count, pattern) => run.wait(() => {
  const found = lines(run, pattern);
  return found.length >= count && found;
}, `${count} lines like ${pattern}`);
const portIn = (line) => Number(line.match(/port (\d+)/)[1]);

// Asks until `count` different ones have answered; a worker that is slow to start answers later.
async function askAll(count, ask) {
  const seen = new Set();
  await until(async () => seen.add(await ask()).size >= count, `answers by ${count} workers`);
  assert.equal(seen.size, count);
  return seen;
}

const answerOf = async (port, pattern, options) => {
  const { status, body } = await request(port, options);
  assert.equal(status, 200);
  assert.match(body, pattern);
  return body.match(pattern)[1];
};

// Ctrl-C in a terminal goes to the whole group.
const interrupt = (run) => process.kill(-run.pid, 'SIGINT');

test('each example begins with how to build it, how to run it and what to expect', () => {
  const files = fs.readdirSync(folder).filter((name) => /\.c?js$/.test(name));
  assert.ok(files.length >= 7);
  for (const file of files) {
    const head = fs.readFileSync(program(file), 'utf8').split("'use strict';")[0];
    for (const word of ['build:', 'run:', 'expect:']) assert.match(head, new RegExp(`^// ${word} +\\S`, 'm'), file);
  }
});

test('hello: four workers answer on one port, Ctrl-C ends all', async () => {
  await play({ entry: program('hello.cjs'), args: ['0'], exit: 'SIGINT' }, async (run) => {
    const [port] = await until(() => {
      const ports = listeningPorts(run.pid);
      return ports.length > 0 && ports;
    }, 'the port of the primary');
    const ids = await askAll(4, () => answerOf(port, /^hello from worker (\d)\n$/));
    assert.deepEqual([...ids].sort(), ['1', '2', '3', '4']);
    interrupt(run);
  });
});

test('http_cluster: the workers answer, their ends are told, and with the last one the primary ends', async () => {
  await play({ entry: program('http_cluster.cjs'), env: { PORT: '0', WORKERS: '2' } }, async (run) => {
    const told = await someLines(run, 2, /^Worker \d+ listens on port \d+$/);
    assert.equal(run.stdout.split('\n')[0], `Primary ${run.pid} is running`);
    const pids = told.map((line) => line.match(/\d+/)[0]);
    assert.equal(portIn(told[0]), portIn(told[1]));

    const ask = () => answerOf(portIn(told[0]), /^hello world from worker (\d+)\n$/);
    assert.deepEqual(await askAll(2, ask), new Set(pids));
    process.kill(Number(pids[0]), 'SIGKILL');
    await someLines(run, 1, new RegExp(`^worker ${pids[0]} died \\(SIGKILL\\)$`));
    for (let i = 0; i < 4; i++) assert.equal(await ask(), pids[1]);
    process.kill(Number(pids[1]), 'SIGTERM');
    await someLines(run, 1, new RegExp(`^worker ${pids[1]} died \\(SIGTERM\\)$`));
  });
});

test('http_cluster: one worker for each CPU where nothing else is said', async () => {
  await play({ entry: program('http_cluster.cjs'), args: ['0'], exit: 'SIGTERM' }, async (run) => {
    const count = require('node:os').availableParallelism();
    await someLines(run, count, /^Worker \d+ listens/);
    assert.equal(support.childrenOf(run.pid).length, count);
    run.kill();
  });
});

const startEcho = (run, count) => someLines(run, count, /^worker \d+ \(pid \d+\) listens on port \d+$/);

async function say(connection, text) {
  const reply = new Promise((resolve) => connection.once('data', (data) => resolve(String(data))));
  connection.write(text);
  const [, pid, echoed] = (await support.deadline(reply, 'a reply')).match(/^Reply from (\d+): ([^]*)$/);
  assert.equal(echoed, text);
  return Number(pid);
}

test('echo: replies with the pid, replaces a worker that crashed, and costs only its own connections', async () => {
  await play({ entry: program('echo.cjs'), env: { PORT: '0' }, exit: 'SIGINT' }, async (run) => {
    const told = await startEcho(run, 3);
    const port = portIn(told[0]);
    const connections = new Map();
    const visit = async () => {
      const connection = await connect(port);
      const pid = await say(connection, 'hi\n');
      if (connections.has(pid)) connection.destroy();
      else connections.set(pid, connection);
      return pid;
    };
    const pids = await askAll(3, visit);
    assert.deepEqual([...pids].sort(), told.map((line) => Number(line.match(/pid (\d+)/)[1])).sort());
    for (const [pid, connection] of connections) assert.equal(await say(connection, 'the same one\n'), pid);

    const [victim, ...others] = pids;
    const end = receive(connections.get(victim)).catch((error) => error.code);
    process.kill(victim, 'SIGKILL');
    assert.ok(['', 'ECONNRESET'].includes(await end));
    await someLines(run, 1, /^worker \d ended \(SIGKILL\), worker 4 follows$/);
    const [, , , fourth] = await startEcho(run, 4);
    assert.equal(portIn(fourth), port);
    for (const pid of others) assert.equal(await say(connections.get(pid), 'still here\n'), pid);
    await until(async () => await visit() === Number(fourth.match(/pid (\d+)/)[1]), 'an answer by the fourth');

    // A client that resets its connection takes nobody with it.
    (await connect(port)).resetAndDestroy();
    assert.ok(await visit());
    interrupt(run);
    for (const connection of connections.values()) connection.on('error', () => {}).destroy();
  });
});

test('echo: a taken port is said once by each worker, and nothing is started again', async () => {
  const { createServer } = require('node:net');
  const other = createServer();
  await new Promise((resolve) => other.listen(0, resolve));
  const taken = String(other.address().port);
  const run = await play({ entry: program('echo.cjs'), args: [taken] });
  other.close();
  assert.equal(lines(run, /^worker \d ended \(1\), not replaced$/).length, 3);
  assert.equal(run.stderr.match(/Error: .*EADDRINUSE.*/g).length, 3);
});

// At once and whole, as mv(1) does.
const deploy = (text) => {
  fs.writeFileSync(program('next.js'), text);
  fs.renameSync(program('next.js'), program('deployed.cjs'));
};

test('reload: SIGHUP brings the next version, refuses one that does not run, and nobody notices', async (t) => {
  const first = fs.readFileSync(program('reload.cjs'), 'utf8');
  const second = first.replace('const version = 1;', 'const version = 2;');
  assert.notEqual(first, second);
  deploy(first);
  t.after(() => fs.rmSync(program('deployed.cjs')));
  await play({ entry: program('deployed.cjs'), args: ['0'], exit: 'SIGINT' }, async (run) => {
    const [port] = await until(() => {
      const ports = listeningPorts(run.pid);
      return ports.length > 0 && ports;
    }, 'the port of the primary');
    const answer = () => answerOf(port, /^(version \d from worker \d+)\n$/);
    assert.ok((await askAll(4, answer)).has('version 1 from worker 1'));

    let going = true;
    const client = (async () => {
      const answered = [];
      while (going) answered.push(await answer());
      return answered;
    })();
    deploy(second);
    run.kill('SIGHUP');
    await someLines(run, 1, /^generation 2: done $/);
    await until(async () => (await answer()).startsWith('version 2'), 'the next version');
    deploy('throw new Error(\'a bad day\');\n');
    run.kill('SIGHUP');
    await someLines(run, 1, /^generation 3: refused worker 9 .*before it was ready/);
    going = false;
    assert.ok((await client).some((text) => text.startsWith('version 1')));
    await until(() => support.childrenOf(run.pid).length === 4, 'the old ones are gone');
    const last = [...await askAll(4, answer)].sort();
    assert.deepEqual(last, [5, 6, 7, 8].map((id) => `version 2 from worker ${id}`));
    interrupt(run);
  });
});

const serverAnswer = (port, options) => answerOf(port, /^GET \/some\/path, answered by (\d+)\n$/,
  { path: '/some/path', ...options });

test('server: one process, and a second one on its port gets EADDRINUSE', async () => {
  await play({ entry: program('server.js'), args: ['0'], exit: 'SIGINT' }, async (run) => {
    const [line] = await someLines(run, 1, /^\d+ listens on port \d+$/);
    assert.equal(Number(await serverAnswer(portIn(line))), run.pid);
    const second = await play({ entry: program('server.js'), env: { PORT: String(portIn(line)) }, exit: 1 });
    assert.match(second.stderr, /^Error: listen EADDRINUSE/m);
    interrupt(run);
  });
});

test('cluster: three workers of the same server, and Ctrl-C lets them finish', async () => {
  const run = await play({ entry: program('cluster.js'), args: ['0'] }, async (run) => {
    const told = await someLines(run, 3, /^\d+ listens on port \d+$/);
    const port = portIn(told[0]);
    const pids = await askAll(3, () => serverAnswer(port));
    assert.deepEqual(pids, new Set(told.map((line) => line.split(' ')[0])));
    assert.ok(!pids.has(String(run.pid)));

    // A request that a worker has (it said 100 Continue) and whose body is still on the way.
    const connection = await connect(port);
    const answer = receive(connection);
    connection.write('GET /some/path HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n');
    await new Promise((resolve) => connection.once('data', resolve));
    interrupt(run);
    await until(() => refusal(port), 'a closed port');
    connection.end('x');
    assert.match(await answer, /answered by \d+/);
  });
  assert.match(run.stdout, /^all workers are gone$/m);
});

test('cluster-rs -i 3 server.js: the same file, without a line of program', async () => {
  const command = program('node_modules/.bin/cluster-rs');
  await play({ entry: command, args: ['-i', '3', program('server.js'), '--', '0'] }, async (run) => {
    const told = await someLines(run, 3, /\d+ listens on port \d+$/);
    const port = portIn(told[0]);
    const pids = [...await askAll(3, () => serverAnswer(port))].map(Number);
    assert.ok(!pids.includes(run.pid));
    for (const pid of pids) assert.deepEqual(listeningPorts(pid), mechanism() === 'passed' ? [] : [port]);
    assert.deepEqual(listeningPorts(run.pid), [port]);
    run.kill('SIGTERM');
    await until(() => !pids.some(isAlive), 'the end of the workers');
  });
});

test('same_port: EADDRINUSE for plain servers, a cluster answers, and only the primary holds the socket', async () => {
  const run = await play({ entry: program('same_port.cjs') });
  const [first, ...refused] = lines(run, /^ {2}\d+ {2}(listens|Error)/);
  assert.match(first, /listens on port \d+$/);
  assert.equal(refused.length, 2);
  for (const line of refused) assert.match(line, /Error: listen EADDRINUSE: address already in use :::\d+$/);
  assert.equal(lines(run, new RegExp(`of a cluster on port ${portIn(first)}:$`)).length, 1);

  const rows = lines(run, /^ {2}\d+ +(primary|worker \d|a stranger) /);
  assert.match(rows[0], new RegExp(`^ {2}${run.pid} +primary +- {2}socket:\\[\\d+\\] as descriptor \\d+$`));
  assert.equal(rows.length, 4);
  for (const row of rows.slice(1)) assert.match(row, /^ {2}\d+ +worker \d +\d {2}-$/);
  assert.equal(rows.slice(1).reduce((sum, row) => sum + Number(row.match(/(\d) {2}-$/)[1]), 0), 9);
  assert.equal(lines(run, /^Listening sockets on the port: 1\. Held by: primary\.$/).length, 1);
});
