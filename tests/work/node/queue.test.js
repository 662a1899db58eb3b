'use strict';

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { Worker } = require('node:worker_threads');
const { Queue } = require('./queue');

test('first in, first out', () => {
  const queue = new Queue().put(1).put(2);
  assert.strictEqual(queue.take(), 1);
  assert.strictEqual(queue.length, 1);
});

test('temporary files', () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'queue-'));
  fs.writeFileSync(path.join(directory, 'a'), 'text');
  fs.renameSync(path.join(directory, 'a'), path.join(directory, 'b'));
  assert.strictEqual(fs.readFileSync(path.join(directory, 'b'), 'utf8'), 'text');
  fs.rmSync(directory, { recursive: true });
});

test('child process', () => {
  assert.strictEqual(execFileSync(process.execPath, ['-p', '6 * 7'], { encoding: 'utf8' }), '42\n');
});

test('worker thread', async () => {
  const worker = new Worker('require("node:worker_threads").parentPort.postMessage(42)', { eval: true });
  assert.strictEqual(await new Promise((resolve) => worker.once('message', resolve)), 42);
});

test('server on loopback', async () => {
  const server = http.createServer((_, response) => response.end('served'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const reply = await fetch(`http://127.0.0.1:${server.address().port}/`);
  assert.strictEqual(await reply.text(), 'served');
  server.closeAllConnections();
  server.close();
});
