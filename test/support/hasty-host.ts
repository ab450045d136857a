/** A `VirtualHost` whose clock moves on by more than the time between checkpoints whenever it is looked at. */
import { VirtualHost } from './virtual-host.js';

const STEP_MS = 1001;

export class HastyHost extends VirtualHost {
  #looks = 0;

  override now(): number {
    return ++this.#looks * STEP_MS;
  }
}
