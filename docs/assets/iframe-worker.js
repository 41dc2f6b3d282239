// Search where the site is opened from a disk: browsers run no worker from a file, so its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inner = frame.contentWindow
      this.inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inner.importScripts = (...urls) => Promise.all(urls.map((one) => this.load(one)))
      this.loaded = this.load(new URL(url, document.baseURI).href)
    }

    load(url) {
      const script = this.inner.document.createElement("script")
      script.src = url
      script.async = false
      this.inner.document.body.append(script)
      return new Promise((done, failed) => Object.assign(script, { onload: done, onerror: failed }))
    }

    postMessage(data) {
      this.loaded.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })))
    }
  }
  window.Worker = window.IFrameWorker
}
