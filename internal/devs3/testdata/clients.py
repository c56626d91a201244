"""Real S3 clients against the development endpoint; the environment holds the endpoint and its keys."""

import hashlib
import io
import os
import sys
import threading
import urllib.error
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pandas as pd
from boto3.s3.transfer import TransferConfig


def refused(call, *codes):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in codes, (code, codes, error)
        return
    raise AssertionError("was not refused")


def client(**changes):
    config = botocore.config.Config(retries={"max_attempts": 1})
    return boto3.client("s3", config=config, **changes)


def basics(s3):
    s3.put_object(Bucket="bucket", Key="features/2024-01-01/a.txt", Body=b"hello world", Metadata={"who": "me"},
                  ContentType="text/plain")
    got = s3.get_object(Bucket="bucket", Key="features/2024-01-01/a.txt")
    assert got["Body"].read() == b"hello world"
    assert got["Metadata"] == {"who": "me"} and got["ContentType"] == "text/plain"
    part = s3.get_object(Bucket="bucket", Key="features/2024-01-01/a.txt", Range="bytes=6-8")
    assert part["Body"].read() == b"wor" and part["ContentRange"] == "bytes 6-8/11"
    tail = s3.get_object(Bucket="bucket", Key="features/2024-01-01/a.txt", Range="bytes=-5")
    assert tail["Body"].read() == b"world"
    refused(lambda: s3.get_object(Bucket="bucket", Key="features/2024-01-01/a.txt", Range="bytes=99-"), "InvalidRange")
    refused(lambda: s3.get_object(Bucket="bucket", Key="missing"), "NoSuchKey")
    refused(lambda: s3.get_object(Bucket="bucket", Key="features"), "NoSuchKey")
    refused(lambda: s3.head_object(Bucket="bucket", Key="missing"), "404")
    s3.copy_object(Bucket="bucket", Key="copy/ä b+c&d.txt", CopySource={"Bucket": "bucket", "Key": "features/2024-01-01/a.txt"})
    assert s3.get_object(Bucket="bucket", Key="copy/ä b+c&d.txt")["Body"].read() == b"hello world"
    s3.put_object(Bucket="bucket", Key="empty", Body=b"")
    assert s3.head_object(Bucket="bucket", Key="empty")["ContentLength"] == 0
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["bucket"]
    s3.put_object(Bucket="bucket", Key="if/absent", Body=b"1", IfNoneMatch="*")
    refused(lambda: s3.put_object(Bucket="bucket", Key="if/absent", Body=b"2", IfNoneMatch="*"), "PreconditionFailed")


def buckets(s3):
    s3.create_bucket(Bucket="mine")
    s3.put_object(Bucket="mine", Key="kept", Body=b"x")
    s3.create_bucket(Bucket="mine")  # as often as one likes, as in us-east-1
    boto3.resource("s3").create_bucket(Bucket="mine")
    assert s3.get_object(Bucket="mine", Key="kept")["Body"].read() == b"x"
    s3.delete_object(Bucket="mine", Key="kept")
    s3.delete_bucket(Bucket="mine")


def tags(s3):
    s3.put_object(Bucket="bucket", Key="tagged", Body=b"x", Metadata={"who": "me"}, Tagging="stage=raw")
    etag = s3.head_object(Bucket="bucket", Key="tagged")["ETag"]
    assert s3.get_object_tagging(Bucket="bucket", Key="tagged")["TagSet"] == [{"Key": "stage", "Value": "raw"}]
    wanted = [{"Key": "owner", "Value": "a & b"}, {"Key": "stage", "Value": "clean"}]
    s3.put_object_tagging(Bucket="bucket", Key="tagged", Tagging={"TagSet": wanted})
    assert s3.get_object_tagging(Bucket="bucket", Key="tagged")["TagSet"] == wanted
    s3.delete_object_tagging(Bucket="bucket", Key="tagged")
    assert s3.get_object_tagging(Bucket="bucket", Key="tagged")["TagSet"] == []
    head = s3.head_object(Bucket="bucket", Key="tagged")
    assert head["ETag"] == etag and head["Metadata"] == {"who": "me"}, head
    refused(lambda: s3.put_object_tagging(Bucket="bucket", Key="absent", Tagging={"TagSet": wanted}), "NoSuchKey")
    s3.delete_object(Bucket="bucket", Key="tagged")


def listing(s3):
    names = ["l/a-b", "l/a/1", "l/a/2", "l/a0", "l/b/c/d", "l/ü"]
    for name in names:
        s3.put_object(Bucket="listing", Key=name, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="listing", Prefix="l/", PaginationConfig={"PageSize": 2}))
    assert len(pages) == 3, len(pages)
    assert [o["Key"] for page in pages for o in page["Contents"]] == sorted(names)
    for size in (1, 2, 3, 10):
        keys, prefixes = [], []
        for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket="listing", Prefix="l/", Delimiter="/", PaginationConfig={"PageSize": size}):
            keys += [o["Key"] for o in page.get("Contents", [])]
            prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        assert keys == ["l/a-b", "l/a0", "l/ü"], (size, keys)
        assert prefixes == ["l/a/", "l/b/"], (size, prefixes)
    old = s3.list_objects(Bucket="listing", Prefix="l/a", MaxKeys=2)
    assert old["IsTruncated"] and [o["Key"] for o in old["Contents"]] == ["l/a-b", "l/a/1"]
    assert "Contents" not in s3.list_objects_v2(Bucket="listing", Prefix="nothing/here/")
    assert "Contents" not in s3.list_objects_v2(Bucket="listing", Prefix="../")
    done = s3.delete_objects(Bucket="listing", Delete={"Objects": [{"Key": n} for n in names] + [{"Key": "never/was"}]})
    assert "Errors" not in done, done
    s3.delete_bucket(Bucket="listing")


def large(s3):
    body = os.urandom(1 << 20) * 50
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), "bucket", "models/large.bin", Config=config)
    out = io.BytesIO()
    s3.download_fileobj("bucket", "models/large.bin", out, Config=config)
    assert out.getvalue() == body
    upload = s3.create_multipart_upload(Bucket="bucket", Key="models/given-up")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="models/given-up", UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    s3.abort_multipart_upload(Bucket="bucket", Key="models/given-up", UploadId=upload)
    refused(lambda: s3.get_object(Bucket="bucket", Key="models/given-up"), "NoSuchKey")
    upload = s3.create_multipart_upload(Bucket="bucket", Key="models/bad")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="models/bad", UploadId=upload, PartNumber=1, Body=b"x")
    refused(lambda: s3.complete_multipart_upload(
        Bucket="bucket", Key="models/bad", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]}), "InvalidPart")


def escapes(s3):
    for key in ("../up", "a/../../../up", "a/./b", ".", "a/.."):
        refused(lambda: s3.put_object(Bucket="bucket", Key=key, Body=b"x"), "InvalidArgument", "InvalidURI")
        refused(lambda: s3.get_object(Bucket="bucket", Key=key), "InvalidArgument", "NoSuchKey", "InvalidURI")
    s3.put_object(Bucket="bucket", Key="file", Body=b"x")
    refused(lambda: s3.put_object(Bucket="bucket", Key="file/below", Body=b"x"), "InvalidArgument")
    refused(lambda: s3.put_object(Bucket="bucket", Key="models", Body=b"x"), "InvalidArgument")


def keys():
    refused(lambda: client(aws_access_key_id="AKIAWRONG", aws_secret_access_key="x").list_buckets(), "InvalidAccessKeyId")
    refused(lambda: client(aws_secret_access_key="wrong", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"])
            .put_object(Bucket="bucket", Key="k", Body=b"x"), "SignatureDoesNotMatch")
    unsigned = boto3.client("s3", config=botocore.config.Config(signature_version=botocore.UNSIGNED))
    refused(lambda: unsigned.get_object(Bucket="bucket", Key="file"), "AccessDenied")
    refused(lambda: unsigned.list_buckets(), "AccessDenied")
    for version in (None, "s3", "s3v4"):  # boto3 presigns the old way unless told otherwise
        presigned(boto3.client("s3", config=botocore.config.Config(signature_version=version) if version else None))


def presigned(s3):
    def link(call, expires=60, **params):
        return s3.generate_presigned_url(call, Params={"Bucket": "bucket", **params}, ExpiresIn=expires)

    def forbidden(url, **request):
        try:
            urllib.request.urlopen(urllib.request.Request(url, **request))
        except urllib.error.HTTPError as error:
            assert error.code == 403, error.code
            return
        raise AssertionError(url + " was not refused")

    url = link("get_object", Key="file", ResponseContentType="text/x")
    assert urllib.request.urlopen(url).read() == b"x"
    forbidden(url.replace("file", "empty", 1))
    forbidden(url, method="DELETE")
    forbidden(url.replace(os.environ["AWS_ACCESS_KEY_ID"], "AKIAWRONG"))
    forbidden(link("get_object", expires=-1, Key="file"))
    wrong = boto3.client("s3", aws_secret_access_key="wrong", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
                         config=s3.meta.config)
    forbidden(wrong.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "file"}))
    key = "put/ä b+c&d=?.txt"
    urllib.request.urlopen(urllib.request.Request(link("put_object", Key=key), data=b"sent", method="PUT",
                                                  headers={"Content-Type": ""}))
    assert urllib.request.urlopen(link("get_object", Key=key)).read() == b"sent"
    client().delete_object(Bucket="bucket", Key=key)


ODD = ["a b", "a+b", "a%20b", "%2F", "+", "ä/ö", "日本", "a&b=c?d#e", "semi;colon", "quote'\"x", "back\\slash", "new\nline",
       "tab\tx", "~t!*()", "{x}", "<xml>&", "a" * 250, "emoji😀", "dot.", ".hidden", "x=1/y=2/part-0.parquet", "a:b|c", " lead",
       "trail ", "folder/", "folder/file", "a//b", "a///b", "/b", "//", "a//", "%00", "%25%00/x"]


def odd_keys(s3):
    for key in ODD:
        s3.put_object(Bucket="odd", Key="k/" + key, Body=b"" if key.endswith("/") else key.encode())
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="odd", Prefix="k/", PaginationConfig={"PageSize": 7})
    listed = [item["Key"] for page in pages for item in page["Contents"]]
    assert listed == sorted(("k/" + key for key in ODD), key=str.encode), listed
    for key in ODD:
        body = s3.get_object(Bucket="odd", Key="k/" + key)["Body"].read()
        assert body == (b"" if key.endswith("/") else key.encode()), key
    for prefix in ("k/a//", "k//", "k/a///b"):
        found = s3.list_objects_v2(Bucket="odd", Prefix=prefix).get("Contents", [])
        assert [item["Key"] for item in found] == [key for key in listed if key.startswith(prefix)], (prefix, found)
    found = s3.list_objects_v2(Bucket="odd", Prefix="k/a/", Delimiter="/")["CommonPrefixes"]
    assert [item["Prefix"] for item in found] == ["k/a//"], found
    s3.delete_object(Bucket="odd", Key="k/folder/file")
    assert s3.head_object(Bucket="odd", Key="k/folder/")["ContentLength"] == 0
    refused(lambda: s3.head_object(Bucket="odd", Key="k/"), "404")
    boto3.resource("s3").Bucket("odd").objects.all().delete()
    s3.delete_bucket(Bucket="odd")


def together(s3):
    """Many writers at once, and readers who must see one object or another, whole and with its own ETag."""
    first, second, faults = b"a" * (3 << 20), b"b" * (2 << 20), []

    def writer(number):
        mine = client()
        for turn in range(8):
            mine.put_object(Bucket="bucket", Key="contended", Body=second if turn % 2 else first)
            mine.put_object(Bucket="bucket", Key="many/%d/%d" % (number, turn), Body=b"x")

    def reader():
        mine = client()
        for _ in range(20):
            got = mine.get_object(Bucket="bucket", Key="contended")
            body = got["Body"].read()
            if body not in (first, second) or got["ETag"].strip('"') != hashlib.md5(body).hexdigest():
                faults.append((len(body), got["ETag"]))

    s3.put_object(Bucket="bucket", Key="contended", Body=first)
    threads = [threading.Thread(target=writer, args=(n,)) for n in range(3)] + [threading.Thread(target=reader)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults
    found = boto3.resource("s3").Bucket("bucket").objects.filter(Prefix="many/")
    assert len(list(found)) == 24
    found.delete()
    assert not list(found)


def frames():
    frame = pd.DataFrame({"x": range(1000), "y": ["a", "b"] * 500})
    frame.to_parquet("s3://bucket/features/frame.parquet")
    frame.to_csv("s3://other-bucket/features/frame.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet("s3://bucket/features/frame.parquet"), frame)
    pd.testing.assert_frame_equal(pd.read_csv("s3://other-bucket/features/frame.csv"), frame)
    import s3fs
    fs = s3fs.S3FileSystem()
    assert sorted(fs.ls("bucket/features")) == ["bucket/features/2024-01-01", "bucket/features/frame.parquet"]
    fs.rm("other-bucket", recursive=True)
    assert not fs.exists("other-bucket/features/frame.csv")


def survived(s3):
    assert s3.get_object(Bucket="bucket", Key="features/2024-01-01/a.txt")["Metadata"] == {"who": "me"}
    assert s3.head_object(Bucket="bucket", Key="models/large.bin")["ContentLength"] == 50 << 20
    assert s3.get_object(Bucket="bucket", Key="by-hand.txt")["Body"].read() == b"put there by a person"


if __name__ == "__main__":
    s3 = client()
    if sys.argv[1:] == ["survived"]:
        survived(s3)
    else:
        basics(s3)
        buckets(s3)
        tags(s3)
        listing(s3)
        large(s3)
        escapes(s3)
        keys()
        odd_keys(s3)
        together(s3)
        frames()
    print("ok")
