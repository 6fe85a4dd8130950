// Browsers run no worker for a page that is a file, and the search of this site is one. There, a hidden frame stands in:
// the worker's script runs in it, and messages are handed over.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    #inside;
    #ready;

    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.#inside = frame.contentWindow;
      this.#inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.onmessage?.(event);
        this.dispatchEvent(event);
      };
      this.#inside.importScripts = (...urls) => Promise.all(urls.map((each) => this.#load(frame, each)));
      this.#ready = this.#load(frame, url);
    }

    postMessage(data) {
      this.#ready.then(() => this.#inside.dispatchEvent(new this.#inside.MessageEvent("message", { data })));
    }

    terminate() {
      this.#inside.frameElement.remove();
    }

    #load(frame, url) {
      const script = frame.contentDocument.createElement("script");
      script.src = new URL(url, location.href);
      return new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${script.src} can't be loaded`));
        frame.contentDocument.body.append(script);
      });
    }
  };
}
