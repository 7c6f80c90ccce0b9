// A small gallery with one mistake, to be killed by `exit137 run`:
//
//   exit137 run --memory 250MiB -- node --require @opentelemetry/auto-instrumentations-node/register \
//       examples/run/gallery.js --load
//
// Express serves it, and the stock OpenTelemetry packages trace it: install.sh beside this file has them. With `--load`
// the gallery has visitors, and is out of memory in about half a minute. Nothing in here knows exit137.
'use strict';

const express = require('express');

const app = express();
const thumbnails = new Map();

app.get('/pictures/:id', (request, response) => response.json({ id: request.params.id, title: 'Sunrise' }));

app.get('/pictures/:id/thumbnail', (request, response) => {
  const { id } = request.params;
  // The mistake: a cache without a bound, in which the size that the visitor asked for makes another entry.
  const key = `${id} ${request.query.width}`;
  if (!thumbnails.has(key)) thumbnails.set(key, Buffer.alloc(3 << 20, id));
  response.send(String(thumbnails.get(key).length));
});

app.post('/likes', (request, response) => response.send('thank you'));

// Twenty requests a second, an eighth of them for thumbnails.
function visitors(port) {
  let seed = 137;
  const dice = (sides) => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return (seed >> 16) % sides;
  };
  setInterval(() => {
    const id = dice(1000);
    const face = dice(8);
    const path = face === 0 ? `/pictures/${id}/thumbnail?width=${dice(4000)}` : face < 3 ? '/likes' : `/pictures/${id}`;
    const method = path === '/likes' ? 'POST' : 'GET';
    fetch(`http://127.0.0.1:${port}${path}`, { method }).then((answer) => answer.text(), () => {});
  }, 50);
}

const server = app.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  console.log(`the gallery is open on http://127.0.0.1:${port}`);
  if (process.argv.includes('--load')) visitors(port);
});
