// Points on a canvas with WebGL2; without it, one rectangle per point.

export type Painter = {
  colour: (colours: Uint8Array) => void;
  draw: (place: { x: number; y: number; k: number }, size: number, most?: number) => void; // most: maximum number of points, a random subset
  close: () => void;
  how: "webgl2" | "canvas";
};

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; uniform vec2 middle; uniform vec2 scale; uniform float size; out vec4 shade;
void main() { gl_Position = vec4((place - middle) * scale, 0.0, 1.0); gl_PointSize = size; shade = colour; }`;
const FRAGMENT = `#version 300 es
precision mediump float; in vec4 shade; out vec4 pixel;
void main() { float far = length(gl_PointCoord - 0.5); if (far > 0.5) discard; pixel = vec4(shade.rgb * 0.9, 0.9); }`;

// A fixed random order, so that the first points are a random sample.
function mixed(count: number): Uint32Array {
  const order = new Uint32Array(count);
  let state = 12345;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (i + 1);
    order[i] = order[other]!;
    order[other] = i;
  }
  return order;
}

export function painter(canvas: HTMLCanvasElement, places: Float32Array): Painter {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  return gl ? byGraphics(canvas, gl, places) : byHand(canvas, places);
}

function byGraphics(canvas: HTMLCanvasElement, gl: WebGL2RenderingContext, places: Float32Array): Painter {
  const program = gl.createProgram()!;
  for (const [kind, text] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(kind)!;
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const count = places.length / 2;
  const order = mixed(count);
  const spots = new Float32Array(places.length);
  for (let i = 0; i < count; i++) spots.set([places[2 * order[i]!]!, places[2 * order[i]! + 1]!], 2 * i);
  const held = (name: string, data: Float32Array | Uint8Array, parts: number, kind: number, unit: boolean) => {
    const buffer = gl.createBuffer();
    const at = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, parts, kind, unit, 0, 0);
    return buffer;
  };
  const where = held("place", spots, 2, gl.FLOAT, false);
  const shades = held("colour", new Uint8Array(count * 4).fill(128), 4, gl.UNSIGNED_BYTE, true);
  const [middle, scale, size] = ["middle", "scale", "size"].map((name) => gl.getUniformLocation(program, name));
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  return {
    how: "webgl2",
    colour(colours) {
      gl.bindBuffer(gl.ARRAY_BUFFER, shades);
      const given = new Uint32Array(colours.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, new Uint8Array(Uint32Array.from(order, (one) => given[one]!).buffer), gl.STATIC_DRAW);
    },
    draw(place, side, most = count) {
      const least = Math.min(canvas.width, canvas.height);
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(middle!, place.x, place.y);
      gl.uniform2f(scale!, (place.k * least) / canvas.width, (place.k * least) / canvas.height);
      gl.uniform1f(size!, side);
      gl.drawArrays(gl.POINTS, 0, Math.min(most, count));
    },
    close() {
      gl.deleteBuffer(where);
      gl.deleteBuffer(shades);
      gl.deleteProgram(program);
    },
  };
}

function byHand(canvas: HTMLCanvasElement, places: Float32Array): Painter {
  const pen = canvas.getContext("2d")!;
  const count = places.length / 2;
  let shades = new Uint8Array(count * 4).fill(128);
  return {
    how: "canvas",
    colour(colours) {
      shades = new Uint8Array(colours);
    },
    draw(place, side, most = count) {
      const step = Math.max(1, Math.ceil(count / Math.min(most, 100_000)));
      const scale = (place.k * Math.min(canvas.width, canvas.height)) / 2;
      pen.clearRect(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < count; i += step) {
        const x = (places[2 * i]! - place.x) * scale + canvas.width / 2;
        const y = (place.y - places[2 * i + 1]!) * scale + canvas.height / 2;
        if (x < -side || y < -side || x > canvas.width + side || y > canvas.height + side) continue;
        pen.fillStyle = `rgb(${shades[4 * i]} ${shades[4 * i + 1]} ${shades[4 * i + 2]})`;
        pen.fillRect(x - side / 2, y - side / 2, side, side);
      }
    },
    close() {},
  };
}
