//! Names of things in AWS: `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.

/// An ARN, taken apart. What the resource's text means depends on the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let arn = parts.next()? == "arn";
        let (partition, service) = (parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        (arn && !resource.is_empty()).then_some(Self { partition, service, region, account, resource })
    }

    /// What stands behind the last slash of the resource: `event-bus/NAME`, `stream/NAME`.
    pub fn name(&self) -> &'a str {
        self.resource.rsplit('/').next().unwrap_or(self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns() {
        let arn = Arn::parse("arn:aws:events:us-east-1:123456789012:event-bus/main").unwrap();
        assert_eq!((arn.service, arn.region, arn.name()), ("events", "us-east-1", "main"));
        assert_eq!(Arn::parse("arn:aws:lambda:r:a:function:f:1").unwrap().resource, "function:f:1");
        assert_eq!(Arn::parse("arn:aws:s3:::bucket").unwrap().resource, "bucket");
        for wrong in ["", "arn:aws:sqs", "urn:aws:sqs:r:a:q", "arn:aws:sqs:r:a:"] {
            assert_eq!(Arn::parse(wrong), None, "{wrong}");
        }
    }
}
