'use strict';

class Queue {
  #items = [];
  put(item) { this.#items.push(item); return this; }
  take() { return this.#items.shift(); }
  get length() { return this.#items.length; }
}

module.exports = { Queue };
