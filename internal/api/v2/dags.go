package v2

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func (a *API) wireDAG(info store.DAGInfo) wire.DAG {
	d := info.DAG
	out := wire.DAG{
		DAGID: d.ID, DagDisplayName: d.DisplayName, IsPaused: info.Paused, IsStale: info.Removed,
		LastParsedTime: wire.AtPtr(&info.LastParsed), BundleName: opt(info.Bundle), BundleVersion: opt(info.BundleVersion),
		RelativeFileloc: opt(d.File), Fileloc: a.fileloc(d.File), Description: opt(d.Description),
		TimetablePeriodic: periodic(d.Schedule.Kind), Tags: []wire.DAGTag{}, MaxActiveTasks: d.MaxActiveTasks, MaxActiveRuns: &d.MaxActiveRuns,
		MaxConsecutiveFailedDagRuns: d.MaxConsecutiveFailedRuns, HasImportErrors: info.HasErrors, Owners: owners(d),
		FileToken: base64.RawURLEncoding.EncodeToString([]byte(info.Bundle + "\n" + d.File)),
	}
	out.IsBackfillable = out.TimetablePeriodic
	summary, description := timetable(d)
	out.TimetableSummary, out.TimetableDescription = &summary, &description
	if out.DagDisplayName == "" {
		out.DagDisplayName = d.ID
	}
	if out.MaxActiveTasks == 0 {
		out.MaxActiveTasks = a.MaxActiveTasks
	}
	if d.MaxActiveRuns == 0 {
		out.MaxActiveRuns = &a.MaxActiveRuns
	}
	for _, t := range d.Tags {
		out.Tags = append(out.Tags, wire.DAGTag{Name: t, DAGID: d.ID, DagDisplayName: out.DagDisplayName})
	}
	for i := range d.Tasks {
		if d.Tasks[i].MaxActiveTIsPerDag > 0 || d.Tasks[i].MaxActiveTIsPerDagrun > 0 {
			out.HasTaskConcurrencyLimits = true
		}
	}
	if len(d.AllowedRunTypes) > 0 {
		out.AllowedRunTypes = &d.AllowedRunTypes
	}
	if n := info.Schedule.NextRun; n != nil && !info.Removed {
		out.NextDagrunLogicalDate, out.NextDagrunRunAfter = wire.AtPtr(&n.LogicalDate), wire.AtPtr(&n.RunAfter)
		out.NextDagrunIntervalStart, out.NextDagrunIntervalEnd = wire.AtPtr(&n.IntervalStart), wire.AtPtr(&n.IntervalEnd)
	}
	return out
}

func periodic(kind string) bool {
	switch kind {
	case dag.ScheduleCronTrigger, dag.ScheduleCronInterval, dag.ScheduleDeltaTrigger, dag.ScheduleDeltaInterval, dag.ScheduleAssetOrTime:
		return true
	}
	return false
}

// timetable is how a schedule is shown: Airflow's words where it has fixed ones.
func timetable(d *dag.DAG) (summary, description string) {
	s := d.Schedule
	zone := s.Timezone
	if zone == "" {
		zone = d.Timezone
	}
	if zone == "" {
		zone = "UTC"
	}
	switch s.Kind {
	case dag.ScheduleNone, "":
		return "None", "Never, external triggers only"
	case dag.ScheduleOnce:
		return "@once", "Once, as soon as possible"
	case dag.ScheduleContinuous:
		return "@continuous", "As frequently as possible, but only one run at a time."
	case dag.ScheduleAssets:
		return "Asset", "Triggered by assets"
	case dag.ScheduleAssetOrTime:
		return "Asset or " + s.Expression, "Triggered by assets or by time"
	}
	return s.Expression, s.Expression + " (" + zone + ")"
}

func owners(d *dag.DAG) []string {
	out := []string{}
	for i := range d.Tasks {
		if o := d.Tasks[i].Owner; o != "" && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	slices.Sort(out)
	return out
}

var dagOrder = map[string]string{"dag_id": "dag_id", "next_dagrun": "next_dagrun", "last_run_start_date": "last_run_start_date", "dag_display_name": "dag_display_name"}

// selectDAGs reads the filters that GET and PATCH /dags share and returns one page and the total.
func (a *API) selectDAGs(r *request) ([]store.DAGInfo, int, error) {
	if err := r.unserved("has_asset_schedule", "asset_dependency", "timetable_type", "is_favorite", "dag_run_state",
		"dag_run_start_date_gte", "dag_run_start_date_gt", "dag_run_start_date_lte", "dag_run_start_date_lt",
		"dag_run_end_date_gte", "dag_run_end_date_gt", "dag_run_end_date_lte", "dag_run_end_date_lt"); err != nil {
		return nil, 0, err
	}
	f := store.DAGFilter{IDPattern: r.text("dag_id_pattern"), Paused: r.optBoolean("paused"), IncludeRemoved: !r.boolean("exclude_stale", true)}
	if f.IDPattern == "~" {
		f.IDPattern = ""
	}
	limit, offset := r.page()
	order, err := r.order("DagModel", dagOrder)
	if err != nil {
		return nil, 0, err
	}
	keep := a.dagConditions(r)
	byName := slices.ContainsFunc(order, func(s string) bool { return strings.HasSuffix(s, "dag_display_name") })
	if !byName {
		f.OrderBy = order
	}
	if err := r.bad(); err != nil {
		return nil, 0, err
	}
	infos, _, err := a.Store.DAGs(r.ctx(), f)
	if err != nil {
		return nil, 0, fmt.Errorf("list DAGs: %w", err)
	}
	infos = slices.DeleteFunc(infos, func(i store.DAGInfo) bool { return !keep(i) })
	if byName {
		slices.SortStableFunc(infos, func(x, y store.DAGInfo) int { return strings.Compare(display(x), display(y)) })
		if strings.HasPrefix(order[0], "-") {
			slices.Reverse(infos)
		}
	}
	total := len(infos)
	return window(infos, limit, offset), total, nil
}

func display(i store.DAGInfo) string {
	if i.DAG.DisplayName != "" {
		return i.DAG.DisplayName
	}
	return i.DAG.ID
}

// window is one page of a list.
func window[T any](list []T, limit, offset int) []T {
	list = list[min(offset, len(list)):]
	return list[:min(limit, len(list))]
}

// dagConditions are the filters the store does not know; there are far fewer DAGs than runs.
func (a *API) dagConditions(r *request) func(store.DAGInfo) bool {
	tags, all := r.query["tags"], r.text("tags_match_mode") == "all"
	if m := r.text("tags_match_mode"); m != "" && m != "all" && m != "any" {
		r.enum = "Invalid value for tags_match_mode. Valid values are any, all"
	}
	wantOwners, named := r.query["owners"], r.text("dag_display_name_pattern")
	errs, bundle, version := r.optBoolean("has_import_errors"), r.text("bundle_name"), r.text("bundle_version")
	last := enums(r, "last_dag_run_state", runStates)
	return func(i store.DAGInfo) bool {
		hit := func(t string) bool { return slices.Contains(i.DAG.Tags, t) }
		switch {
		case len(tags) > 0 && !all && !slices.ContainsFunc(tags, hit),
			all && slices.ContainsFunc(tags, func(t string) bool { return !hit(t) }),
			len(wantOwners) > 0 && !slices.ContainsFunc(wantOwners, func(o string) bool { return slices.Contains(owners(i.DAG), o) }),
			named != "" && !like(named, display(i)),
			errs != nil && *errs != i.HasErrors, bundle != "" && bundle != i.Bundle, version != "" && version != i.BundleVersion:
			return false
		}
		return len(last) == 0 || a.lastRunIs(r, i.DAG.ID, last[0])
	}
}

func (a *API) lastRunIs(r *request, dagID string, s run.State) bool {
	runs, _, err := a.Store.Runs(r.ctx(), store.RunFilter{DAGID: dagID, OrderBy: []string{"-run_after"}, Limit: 1})
	return err == nil && len(runs) == 1 && runs[0].State == s
}

// like is SQL's LIKE without regard to case, with Airflow's "|" for alternatives.
func like(pattern, s string) bool {
	for p := range strings.SplitSeq(pattern, "|") {
		if likeOne(strings.ToLower(strings.TrimSpace(p)), strings.ToLower(s)) {
			return true
		}
	}
	return false
}

// likeOne backtracks over the last "%" only, so that no pattern takes more than len(p)·len(s) steps.
func likeOne(p, s string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '%':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '_' || p[i] == s[j]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "%") == ""
}

func (a *API) listDAGs(r *request) error {
	infos, total, err := a.selectDAGs(r)
	if err != nil {
		return err
	}
	return r.ok(a.wireDAGs(infos, total))
}

func (a *API) wireDAGs(infos []store.DAGInfo, total int) wire.DAGs {
	out := wire.DAGs{DAGs: []wire.DAG{}, Total: total}
	for _, i := range infos {
		out.DAGs = append(out.DAGs, a.wireDAG(i))
	}
	return out
}

// pausedFrom reads the body of PATCH /dags and PATCH /dags/{dag_id}.
func pausedFrom(r *request) (bool, error) {
	body, err := r.readBody()
	if err != nil {
		return false, err
	}
	paused := false
	if body.must("is_paused") {
		paused = body.boolean("is_paused", false)
	}
	if err := body.done(); err != nil {
		return false, err
	}
	if m := r.mask(); m != nil && !slices.Equal(m, mask{"is_paused"}) {
		return false, badRequest("Only `is_paused` field can be updated through the REST API")
	}
	return paused, nil
}

func (a *API) patchDAGs(r *request) error {
	paused, err := pausedFrom(r)
	if err != nil {
		return err
	}
	infos, total, err := a.selectDAGs(r)
	if err != nil {
		return err
	}
	for i := range infos {
		if err := a.Scheduler.SetPaused(r.ctx(), r.actor(), infos[i].DAG.ID, paused); err != nil {
			return domain(err, "DAG "+infos[i].DAG.ID)
		}
		infos[i].Paused = paused
	}
	return r.ok(a.wireDAGs(infos, total))
}

func (a *API) getDAG(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	return r.ok(a.wireDAG(info))
}

func (a *API) patchDAG(r *request) error {
	paused, err := pausedFrom(r)
	if err != nil {
		return err
	}
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	if err := a.Scheduler.SetPaused(r.ctx(), r.actor(), info.DAG.ID, paused); err != nil {
		return domain(err, "DAG "+info.DAG.ID)
	}
	info.Paused = paused
	return r.ok(a.wireDAG(info))
}

// deleteDAG deletes a DAG with all its history; one whose file is still there comes back without a past, as in Airflow.
func (a *API) deleteDAG(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	if err := a.Scheduler.DeleteDAG(r.ctx(), r.actor(), info.DAG.ID); err != nil {
		return domain(err, "DAG "+info.DAG.ID)
	}
	if a.Deleted != nil {
		a.Deleted()
	}
	return r.nothing()
}

func (a *API) dagDetails(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	d := info.DAG
	_, active, err := a.Store.Runs(r.ctx(), store.RunFilter{DAGID: d.ID, States: []run.State{run.RunRunning}, Limit: 1})
	if err != nil {
		return fmt.Errorf("count running DAG runs of %s: %w", d.ID, err)
	}
	zone := d.Timezone
	if zone == "" {
		zone = "UTC"
	}
	out := wire.DAGDetails{
		DAG: a.wireDAG(info), Catchup: d.Catchup, DocMD: opt(d.DocMD), StartDate: wire.AtPtr(d.StartDate), EndDate: wire.AtPtr(d.EndDate),
		IsPausedUponCreation: d.PausedUponCreation, Params: paramsJSON(d.Params), RenderTemplateAsNative: d.RenderNative,
		Timezone: &zone, LastParsed: wire.AtPtr(&info.LastParsed), OwnerLinks: d.OwnerLinks, ActiveRunsCount: active,
		Ostro: wire.DAGExtras{Compat: d.Compat, Schedule: d.Schedule.Kind},
	}
	if out.Ostro.Compat == "" {
		out.Ostro.Compat = dag.CompatAirflow3
	}
	out.Concurrency = out.MaxActiveTasks
	if d.DagrunTimeout != nil {
		s := isoDuration(d.DagrunTimeout.Duration())
		out.DagRunTimeout = &s
	}
	for _, g := range d.Groups {
		out.Ostro.Groups = append(out.Ostro.Groups, g.ID)
	}
	if v, err := a.view(r.ctx()).version(d.ID, 0); err != nil {
		return err
	} else if v != nil {
		w := wireVersion(v.dag, v.info)
		out.LatestDagVersion = &w
	}
	return r.ok(out)
}

// isoDuration writes a duration as pydantic does: P1DT2H3M4.5S.
func isoDuration(d time.Duration) string {
	days := d / (24 * time.Hour)
	d -= days * 24 * time.Hour
	var b strings.Builder
	b.WriteString("P")
	if days > 0 {
		fmt.Fprintf(&b, "%dD", days)
	}
	h, m, s := d/time.Hour, d%time.Hour/time.Minute, (d % time.Minute).Seconds()
	if h+m > 0 || s > 0 || days == 0 {
		b.WriteString("T")
	}
	if h > 0 {
		fmt.Fprintf(&b, "%dH", h)
	}
	if m > 0 {
		fmt.Fprintf(&b, "%dM", m)
	}
	if s > 0 || days == 0 && h+m == 0 {
		fmt.Fprintf(&b, "%gS", s)
	}
	return b.String()
}

// paramsJSON writes params as Airflow's API does: {name: {value, schema, description}}.
func paramsJSON(params map[string]dag.Param) json.RawMessage {
	type param struct {
		Value       json.RawMessage `json:"value"`
		Schema      json.RawMessage `json:"schema"`
		Description *string         `json:"description"`
		Source      *string         `json:"source"`
	}
	out := map[string]param{}
	for name, p := range params {
		out[name] = param{Value: rawOr(p.Value, "null"), Schema: rawOr(p.Schema, "{}"), Description: opt(p.Description), Source: opt(p.Source)}
	}
	b, err := encode(out)
	if err != nil { // a stored DAG has valid JSON in its params
		return json.RawMessage("{}")
	}
	return b
}

func (a *API) listDagVersions(r *request) error {
	info, err := a.dagInfo(r.ctx(), r.path("dag_id"))
	if err != nil {
		return err
	}
	limit, offset := r.page()
	number, bundle, hash := r.intFrom("version_number", 0, 0), r.text("bundle_name"), r.text("bundle_version")
	if _, err := r.order("DagVersion", map[string]string{"id": "id", "version_number": "version_number", "bundle_name": "bundle_name", "bundle_version": "bundle_version", "dag_id": "dag_id"}); err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	all, err := a.Store.DAGVersions(r.ctx(), info.DAG.ID)
	if err != nil {
		return fmt.Errorf("list versions of DAG %s: %w", info.DAG.ID, err)
	}
	all = slices.DeleteFunc(all, func(v store.DAGVersionInfo) bool {
		return number > 0 && v.Number != number || bundle != "" && v.Bundle != bundle || hash != "" && v.BundleVersion != hash
	})
	slices.SortFunc(all, func(x, y store.DAGVersionInfo) int { return x.Number - y.Number })
	if strings.HasPrefix(r.text("order_by"), "-") {
		slices.Reverse(all)
	}
	out := wire.DagVersions{DagVersions: []wire.DagVersion{}, Total: len(all)}
	for _, v := range window(all, limit, offset) {
		out.DagVersions = append(out.DagVersions, wireVersion(info.DAG, v))
	}
	return r.ok(out)
}

func (a *API) getDagVersion(r *request) error {
	number := r.pathInt("version_number")
	if err := r.bad(); err != nil {
		return err
	}
	v, err := a.numbered(r, r.path("dag_id"), number)
	if err != nil {
		return err
	}
	return r.ok(wireVersion(v.dag, v.info))
}

func (a *API) numbered(r *request, dagID string, number int) (*version, error) {
	v, err := a.view(r.ctx()).version(dagID, max(number, 0))
	if err != nil {
		return nil, err
	}
	if v == nil || number < 0 {
		return nil, notFound("The DagVersion with dag_id: `%s` and version_number: `%d` was not found", dagID, number)
	}
	return v, nil
}

// dagSource answers with the file as it was in the version's bundle snapshot.
func (a *API) dagSource(r *request) error {
	if _, err := a.dagInfo(r.ctx(), r.path("dag_id")); err != nil {
		return err
	}
	number := r.intFrom("version_number", 0, 0)
	if err := r.bad(); err != nil {
		return err
	}
	v, err := a.numbered(r, r.path("dag_id"), number)
	if err != nil {
		return err
	}
	content, err := a.readSource(r, v)
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		r.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = r.w.Write(content)
		return nil
	}
	s := string(content)
	return r.ok(wire.DAGSource{Content: &s, DAGID: v.dag.ID, VersionNumber: &v.info.Number, DagDisplayName: v.display(v.dag.ID)})
}

// readSource reads the file from the snapshot that the version was published with, and from nowhere else.
func (a *API) readSource(r *request, v *version) ([]byte, error) {
	gone := notFound("The source of version %d of DAG %s is not kept any more", v.info.Number, v.dag.ID)
	bundle, err := a.Store.BundleVersion(r.ctx(), v.info.Bundle, v.info.BundleVersion)
	if errors.Is(err, store.ErrNotFound) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("find the bundle snapshot: %w", err)
	}
	root, err := os.OpenRoot(bundle.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("open the bundle snapshot: %w", err)
	}
	defer func() { _ = root.Close() }()
	content, err := root.ReadFile(filepath.FromSlash(v.dag.File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("read the source of DAG %s: %w", v.dag.ID, err)
	}
	return content, nil
}

func (a *API) dagStats(r *request) error {
	ids := r.query["dag_ids"]
	infos, _, err := a.Store.DAGs(r.ctx(), store.DAGFilter{})
	if err != nil {
		return fmt.Errorf("list DAGs: %w", err)
	}
	out := wire.DagStats{DAGs: []wire.DagStat{}}
	for _, i := range infos {
		if len(ids) > 0 && !slices.Contains(ids, i.DAG.ID) {
			continue
		}
		counts, err := a.Store.RunStats(r.ctx(), i.DAG.ID)
		if err != nil {
			return fmt.Errorf("count DAG runs of %s: %w", i.DAG.ID, err)
		}
		stat, total := wire.DagStat{DAGID: i.DAG.ID, DagDisplayName: display(i)}, 0
		for _, s := range runStates {
			stat.Stats, total = append(stat.Stats, wire.StateCount{State: string(s), Count: counts[s]}), total+counts[s]
		}
		if total > 0 {
			out.DAGs = append(out.DAGs, stat)
		}
	}
	out.Total = len(out.DAGs)
	return r.ok(out)
}

func (a *API) dagTags(r *request) error {
	limit, offset := r.page()
	if _, err := r.order("DagTag", map[string]string{"name": "name"}); err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	infos, _, err := a.Store.DAGs(r.ctx(), store.DAGFilter{})
	if err != nil {
		return fmt.Errorf("list DAGs: %w", err)
	}
	tags := []string{}
	for _, i := range infos {
		for _, t := range i.DAG.Tags {
			if p := r.text("tag_name_pattern"); p == "" || like(p, t) {
				tags = append(tags, t)
			}
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if strings.HasPrefix(r.text("order_by"), "-") {
		slices.Reverse(tags)
	}
	return r.ok(wire.DagTags{Tags: window(tags, limit, offset), Total: len(tags)})
}
