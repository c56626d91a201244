package api

import (
	"bytes"
	"html/template"
	"net/http"
	"path/filepath"
)

// front says what runs where. It is open to everyone who reaches the port, so it shows nothing of the work itself, and where
// things are on the machine only to those who have the token.
func (s *server) front(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	shown := map[string]string{"Version": s.o.Version, "Host": r.Host, "Token": "HOME/token"}
	if s.hasToken(r) {
		shown["Home"], shown["DAGs"], shown["Token"] = s.o.Home, s.o.DAGs, filepath.Join(s.o.Home, "token")
	}
	if err := frontPage.Execute(&b, shown); err != nil {
		s.log.Error("write the front page", "err", err)
		refuse(w, http.StatusInternalServerError, `{"detail":"Internal Server Error"}`)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

var frontPage = template.Must(template.New("front").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Ostro</title>
<style>
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#57606a;--page:#fff;--box:#f4f6f8}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9aa4af;--page:#0f1419;--box:#1a212a}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;padding:24px 16px;max-width:44rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:1.75rem 0 .5rem}p{margin:.5rem 0}.dim{color:var(--dim)}
code,pre{font:14px/1.5 ui-monospace,monospace}pre{background:var(--box);padding:12px;border-radius:8px;overflow-x:auto;margin:.5rem 0}
dt{color:var(--dim);font-size:.9rem}dd{margin:0 0 .5rem;overflow-wrap:anywhere}a{color:inherit}
</style></head><body>
<h1>Ostro is running</h1><p class="dim">Version {{.Version}}. This page is static: it shows where things are, not how they are.</p>
{{if .Home}}<dl><dt>Home</dt><dd><code>{{.Home}}</code></dd><dt>DAG files</dt><dd><code>{{.DAGs}}</code></dd></dl>
{{else}}<p>Where its files are, the command that started it has said, and <code>ostro config show</code> says.</p>
{{end}}<h2>First steps</h2>
<pre>ostro dags list
ostro dags trigger DAG_ID --wait
ostro runs watch DAG_ID
ostro tasks logs DAG_ID TASK_ID</pre>
<h2>The API</h2>
<p>Airflow's REST API v2 is below <code>/api/v2</code>. Send the token from <code>{{.Token}}</code>:</p>
<pre>curl -H "Authorization: Bearer $(cat {{.Token}})" \
  http://{{.Host}}/api/v2/dags</pre>
<p>Open without a token: <a href="/api/v2/monitor/health">health</a> and <a href="/api/v2/version">version</a>.</p>
</body></html>
`))
