package devs3

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// withOldLinks takes presigned URLs of S3's signature version 2, which boto3's generate_presigned_url still makes for
// us-east-1 unless it is told otherwise. The library knows version 4 only, so a request with such a signature is checked
// here and passed to open, and every other one to signed.
func withOldLinks(keys credentials, open, signed http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if !query.Has("AWSAccessKeyId") || !query.Has("Signature") {
			signed.ServeHTTP(w, r)
			return
		}
		if reason := refuseOldLink(keys, r, query, time.Now()); reason != "" {
			http.Error(w, reason, http.StatusForbidden)
			return
		}
		for _, name := range []string{"AWSAccessKeyId", "Signature", "Expires"} {
			query.Del(name)
		}
		r.URL.RawQuery = query.Encode()
		open.ServeHTTP(w, r)
	})
}

// refuseOldLink says why a request is not to be answered; "" means that it is signed with the keys and still good.
func refuseOldLink(keys credentials, r *http.Request, query url.Values, now time.Time) string {
	expires, err := strconv.ParseInt(query.Get("Expires"), 10, 64)
	if err != nil || now.Unix() > expires {
		return "the link has expired"
	}
	mac := hmac.New(sha1.New, []byte(keys.secret))
	mac.Write([]byte(oldText(r, query)))
	given, err := base64.StdEncoding.DecodeString(query.Get("Signature"))
	if err != nil || query.Get("AWSAccessKeyId") != keys.id || !hmac.Equal(given, mac.Sum(nil)) {
		return "the link is not signed with the keys of this S3"
	}
	return ""
}

// oldText is what signature version 2 signs: the method, three headers, the headers and parameters that S3 gives a meaning,
// and the path.
func oldText(r *http.Request, query url.Values) string {
	lines := []string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), query.Get("Expires")}
	var own []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			own = append(own, name+":"+strings.Join(values, ","))
		}
	}
	slices.Sort(own)
	resource := r.URL.EscapedPath()
	separator := "?"
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(oldParameters, name) {
			continue
		}
		resource += separator + name
		if value := query.Get(name); value != "" {
			resource += "=" + value
		}
		separator = "&"
	}
	return strings.Join(append(append(lines, own...), resource), "\n")
}

// oldParameters are the query parameters that signature version 2 signs.
var oldParameters = []string{"acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy",
	"requestPayment", "response-cache-control", "response-content-disposition", "response-content-encoding",
	"response-content-language", "response-content-type", "response-expires", "tagging", "torrent", "uploadId", "uploads",
	"versionId", "versioning", "versions", "website"}
